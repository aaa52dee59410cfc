"""Instances and Spot requests as EC2 lists them: complete, or an error."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared.compute.ec2.client import Aws
from shared.compute.ec2.shapes import (
    DEPLOYMENT,
    LAUNCH,
    OPEN_REQUESTS,
    DescribedInstance,
    filters,
    is_request,
    read_instance,
    read_request,
    tag_filter,
)
from shared.compute.port import InstanceState

MOST_VALUES = 200
"""Values of one filter, at most."""

PAGE = 1000

UNSETTLED_REQUESTS = (*OPEN_REQUESTS, "disabled", "cancelled")
"""States of a request that may have an instance: cancelling one ends no instance that it has
launched. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html
"""


class InstanceListing:
    """A deployment's instances in EC2. Raises `Throttled` or `Unknown`; no list is incomplete.

    A stopped Spot instance makes its request persistent, and an instance that such a request
    launches later has no tag of ours: it is found through the request.
    """

    def __init__(self, aws: Aws, deployment: str) -> None:
        self._aws = aws
        self._deployment = deployment
        self.requests: dict[str, str] = {}
        """The Spot request by instance id."""
        self._over: set[str] = set()  # terminated, of requests that EC2 still shows

    async def all(self) -> list[DescribedInstance]:
        """List every instance of the deployment, and each Spot request that may become one."""
        ours = tag_filter(DEPLOYMENT, self._deployment)
        found = await self._instances([ours])
        requests = await self._requests([ours, *filters(state=UNSETTLED_REQUESTS)])
        launched = {each["InstanceId"] for each in requests if each.get("InstanceId")}
        untagged = launched - {each.instance_id for each in found} - self._over
        found += await self.of(sorted(untagged))
        found += [
            read_request(each)
            for each in requests
            if not each.get("InstanceId") and each["State"] in OPEN_REQUESTS
        ]
        self._over = launched & (
            self._over
            | {each.instance_id for each in found if each.state is InstanceState.TERMINATED}
        )
        return self._remember(found)

    async def of(self, ids: Sequence[str]) -> list[DescribedInstance]:
        """Describe these instances and Spot requests; the rest is not visible now.

        By a filter and not by id: an id that is not visible yet would fail the whole call.
        """
        found: list[DescribedInstance] = []
        instances = [each for each in ids if not is_request(each)]
        for chunk in _chunks(instances):
            found += await self._instances(filters(instance_id=chunk))
        for chunk in _chunks([each for each in ids if is_request(each)]):
            requests = await self._requests(filters(spot_instance_request_id=chunk))
            found += [read_request(each) for each in requests]
        return self._remember(found)

    async def launched_by(self, token: str) -> list[DescribedInstance]:
        """List the instances with the tag of a launch."""
        by_launch = [tag_filter(LAUNCH, token), tag_filter(DEPLOYMENT, self._deployment)]
        return self._remember(await self._instances(by_launch))

    async def _instances(self, wanted: list[dict[str, Any]]) -> list[DescribedInstance]:
        reservations = await self._aws.read_all(
            "DescribeInstances", "Reservations", Filters=wanted, MaxResults=PAGE
        )
        return [read_instance(each) for group in reservations for each in group["Instances"]]

    async def _requests(self, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return await self._aws.read_all(
            "DescribeSpotInstanceRequests", "SpotInstanceRequests", Filters=wanted, MaxResults=PAGE
        )

    def _remember(self, found: list[DescribedInstance]) -> list[DescribedInstance]:
        self.requests |= {
            each.instance_id: each.spot_instance_request_id
            for each in found
            if each.spot_instance_request_id
        }
        return found

    def forget_all_but(self, living: Iterable[str]) -> None:
        """Forget the requests of all instances but the *living*."""
        keep = set(living)
        self.requests = {each: sir for each, sir in self.requests.items() if each in keep}


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + MOST_VALUES] for start in range(0, len(ids), MOST_VALUES)]
