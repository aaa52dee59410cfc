"""EC2's answers about single ids: is an instance that no list shows terminated?

A filter that finds nothing says nothing, so each is asked for by its id. That answers for an
instance that has lost its tags too: EC2 takes them off a terminated instance after a while
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-basics). NotFound proves
nothing alone
(https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html), but the instance's Spot
request has a status of its own, which EC2 keeps for four hours
(DescribeSpotInstanceRequests in the API reference).
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.clock import Clock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.errors import code_of
from shared.compute.ec2.listing import InstanceListing
from shared.compute.ec2.shapes import (
    DescribedInstance,
    filters,
    is_request,
    read_instance,
    read_request,
)
from shared.compute.port import ComputeError, InstanceState, NotFound, Rejected, Throttled
from shared.log import get_logger

_log = get_logger(part="ec2")

AT_ONCE = 50
"""Ids in one call: one that EC2 does not know fails them all."""

NO_INSTANCE = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")

ENDED_STATUSES = frozenset(
    {
        *("instance-terminated-by-price", "instance-terminated-by-schedule"),
        *("instance-terminated-by-service", "instance-terminated-by-user"),
        *("instance-terminated-no-capacity", "instance-terminated-capacity-oversubscribed"),
        *("instance-terminated-launch-group-constraint", "instance-terminated-by-experiment"),
        "spot-instance-terminated-by-user",
    }
)
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instances-request-status-lifecycle.html
"""

RECLAIMED_STATUSES = frozenset(
    {
        *("instance-terminated-no-capacity", "instance-terminated-capacity-oversubscribed"),
        "instance-terminated-by-price",
    }
)

LIVING_STATUSES = frozenset(
    {
        *("fulfilled", "request-canceled-and-instance-running"),
        *("marked-for-termination", "marked-for-stop"),
    }
)

NOTICE = timedelta(seconds=120)
"""`instance-terminated-no-capacity` comes with the notice: for two minutes more the instance runs
(footnote of the same page)."""

SETTLED = timedelta(seconds=300)
"""A status of an end that is younger proves nothing: the notice, and a shutdown after it. One of a
life proves it for so long, and longer only while its request is active: nothing documents that EC2
changes the status of a cancelled request once its instance ends.
"""


class Confirmation:
    """EC2's answers about single instances and Spot requests, without prices."""

    def __init__(self, aws: Aws, listing: InstanceListing, clock: Clock) -> None:
        self._aws = aws
        self._listing = listing
        self._clock = clock

    async def of(self, ids: Sequence[str]) -> dict[str, DescribedInstance | NotFound]:
        """Return what EC2 answers about each; one without an answer is left out."""
        found: dict[str, DescribedInstance | NotFound] = {}
        instances = [each for each in ids if INSTANCE_ID.fullmatch(each)]
        for start in range(0, len(instances), AT_ONCE):
            found |= await self._answers(instances[start : start + AT_ONCE])
        found |= await self._by_request([each for each, it in found.items() if _is_missing(it)])
        requests = [each for each in ids if is_request(each)]
        found |= {each.instance_id: each for each in await self._listing.of(requests)}
        # An id that is none of EC2's is of an adapter that the deployment used before.
        others = [each for each in ids if each not in instances]
        return {each: NotFound(final=False) for each in others} | found

    async def _answers(self, ids: Sequence[str]) -> dict[str, DescribedInstance | NotFound]:
        if not ids:
            return {}
        try:
            # Without MaxResults, which EC2 refuses beside ids.
            shown = await self._aws.read("DescribeInstances", InstanceIds=list(ids))
        except Throttled:
            raise
        except Rejected as error:
            if not (isinstance(error.__cause__, Exception) and _is_unknown(error.__cause__)):
                raise
            return await self._without_unknown(ids, str(error))
        except ComputeError as error:
            # If a zone is disrupted, a call that names an instance there fails.
            _log.warning("cannot ask for instances by id", instances=len(ids), error=str(error))
            return {}
        read = [read_instance(each) for it in shown["Reservations"] for each in it["Instances"]]
        missing: DescribedInstance | NotFound = NotFound(final=False)
        return dict.fromkeys(ids, missing) | {each.instance_id: each for each in read}

    async def _without_unknown(
        self, ids: Sequence[str], message: str
    ) -> dict[str, DescribedInstance | NotFound]:
        """Ask again without those that EC2's *message* names; by halves if it names none."""
        if len(ids) == 1:
            return {ids[0]: NotFound(final=False)}
        named = set(INSTANCE_ID.findall(message)) & set(ids)
        if named:
            rest = await self._answers([each for each in ids if each not in named])
            return {each: NotFound(final=False) for each in named} | rest
        half = len(ids) // 2
        return await self._answers(ids[:half]) | await self._answers(ids[half:])

    async def _by_request(self, ids: Sequence[str]) -> dict[str, DescribedInstance]:
        """Return those of *ids*, which were not found, whose Spot request shows their state."""
        if not ids:
            return {}
        requests = await self._aws.read_all(
            "DescribeSpotInstanceRequests",
            "SpotInstanceRequests",
            Filters=filters(instance_id=ids),
            MaxResults=1000,
        )
        now = self._clock.now()
        read = (_instance_of(each, now) for each in requests)
        return {each.instance_id: each for each in read if each and each.instance_id in ids}


def _instance_of(shown: dict[str, Any], now: datetime) -> DescribedInstance | None:
    """Read the state of a request's instance; None: the request does not show it."""
    status = shown.get("Status") or {}
    code, at = status.get("Code") or "", status.get("UpdateTime")
    instance_id = shown.get("InstanceId") or ""
    request = read_request(shown)
    young = at is not None and now - at.astimezone(UTC) < SETTLED
    if code in LIVING_STATUSES and (young or shown.get("State") == "active"):
        return _as_instance(request, instance_id, InstanceState.RUNNING, None, code)
    if code not in ENDED_STATUSES or at is None:
        return None
    at = at.astimezone(UTC)
    if young:
        return _as_instance(request, instance_id, InstanceState.STOPPING, None, code)
    ended_at = at + NOTICE if code in RECLAIMED_STATUSES else at
    return _as_instance(request, instance_id, InstanceState.TERMINATED, ended_at, code)


def _as_instance(
    request: DescribedInstance,
    instance_id: str,
    state: InstanceState,
    ended_at: datetime | None,
    code: str,
) -> DescribedInstance:
    return DescribedInstance(
        instance_id=instance_id,
        state=state,
        launch_token=request.launch_token,
        launched_at=request.launched_at,
        instance_type=request.instance_type,
        zone=request.zone,
        market="spot",
        spot_instance_request_id=request.spot_instance_request_id,
        terminated_at=ended_at,
        state_reason=code,
        spot_interrupted=ended_at is not None and code in RECLAIMED_STATUSES,
    )


def _is_missing(answer: DescribedInstance | NotFound) -> bool:
    return isinstance(answer, NotFound)


def _is_unknown(error: Exception) -> bool:
    return code_of(error) in NO_INSTANCE
