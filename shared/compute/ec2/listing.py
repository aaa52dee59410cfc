"""Instances and Spot requests as EC2 lists them: all of it, or an error."""

from collections.abc import Iterable, Sequence

from shared.compute.ec2.client import Aws
from shared.compute.ec2.shapes import (
    DEPLOYMENT,
    LAUNCH,
    OPEN_REQUESTS,
    Shown,
    filters,
    is_request,
    read_instance,
    read_request,
    tag_filter,
)

MOST_VALUES = 200
"""Values that one filter may have."""

PAGE = 1000


class Listing:
    """Reads what EC2 shows of a deployment. Raises `Throttled` or `Unknown`, never half a list.

    A stopped Spot instance makes its request persistent, and what such a request launches later
    bears no tag of ours: it is found through the request.
    """

    def __init__(self, aws: Aws, deployment: str) -> None:
        self._aws = aws
        self._deployment = deployment
        self.requests: dict[str, str] = {}
        """The Spot request of each instance that was seen."""

    async def all(self) -> list[Shown]:
        """Every instance of the deployment, and each Spot request that may become one."""
        ours = tag_filter(DEPLOYMENT, self._deployment)
        found = await self._instances([ours])
        requests = await self._aws.look_at_all(
            "DescribeSpotInstanceRequests",
            "SpotInstanceRequests",
            Filters=[ours, *filters(state=OPEN_REQUESTS)],
            MaxResults=PAGE,
        )
        known = {each.instance_id for each in found}
        untagged = [
            each["InstanceId"]
            for each in requests
            if each.get("InstanceId") and each["InstanceId"] not in known
        ]
        found += await self.of(untagged)
        found += [read_request(each) for each in requests if not each.get("InstanceId")]
        return self._remember(found)

    async def of(self, ids: Sequence[str]) -> list[Shown]:
        """What EC2 shows of these instances and Spot requests; the rest is not visible now.

        By a filter and not by their names: one that is not visible yet would fail the whole call.
        """
        found: list[Shown] = []
        instances = [each for each in ids if not is_request(each)]
        for chunk in _chunks(instances):
            found += await self._instances(filters(instance_id=chunk))
        for chunk in _chunks([each for each in ids if is_request(each)]):
            shown = await self._aws.look_at_all(
                "DescribeSpotInstanceRequests",
                "SpotInstanceRequests",
                Filters=filters(spot_instance_request_id=chunk),
                MaxResults=PAGE,
            )
            found += [read_request(each) for each in shown]
        return self._remember(found)

    async def launched_by(self, token: str) -> list[Shown]:
        """The instances that bear the tag of a launch."""
        by_launch = [tag_filter(LAUNCH, token), tag_filter(DEPLOYMENT, self._deployment)]
        return self._remember(await self._instances(by_launch))

    async def _instances(self, wanted: list[dict[str, object]]) -> list[Shown]:
        reservations = await self._aws.look_at_all(
            "DescribeInstances", "Reservations", Filters=wanted, MaxResults=PAGE
        )
        return [read_instance(each) for group in reservations for each in group["Instances"]]

    def _remember(self, found: list[Shown]) -> list[Shown]:
        self.requests |= {
            each.instance_id: each.spot_instance_request_id
            for each in found
            if each.spot_instance_request_id
        }
        return found

    def forget_all_but(self, living: Iterable[str]) -> None:
        """Keep no memory of what is gone."""
        keep = set(living)
        self.requests = {each: sir for each, sir in self.requests.items() if each in keep}


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + MOST_VALUES] for start in range(0, len(ids), MOST_VALUES)]
