"""Ending instances on EC2: their Spot requests are cancelled first, then they are terminated."""

import re
from collections.abc import Sequence

from shared.compute.ec2.client import Aws
from shared.compute.ec2.errors import code_of
from shared.compute.ec2.listing import InstanceListing
from shared.compute.ec2.shapes import is_request
from shared.compute.port import ComputeError, Rejected
from shared.log import get_logger

_log = get_logger(part="ec2")

MOST_IDS = 500
"""Instances in one TerminateInstances call."""

NOT_FOUND = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
NO_REQUEST = frozenset(
    {"InvalidSpotInstanceRequestID.NotFound", "InvalidSpotInstanceRequestID.Malformed"}
)
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


class InstanceEnder:
    """Ends instances of one deployment."""

    def __init__(self, aws: Aws, listing: InstanceListing) -> None:
        self._aws = aws
        self._listing = listing

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Cancel the Spot requests of these, so that none launches again, then end them."""
        ids = [each for each in instance_ids if INSTANCE_ID.fullmatch(each)]
        requests = [each for each in instance_ids if is_request(each)]
        failure = await self._cancel([*requests, *await self._requests_of(ids)])
        for start in range(0, len(ids), MOST_IDS):
            await self._terminate(ids[start : start + MOST_IDS])
        if failure is not None:
            raise failure

    async def _requests_of(self, ids: Sequence[str]) -> list[str]:
        known = self._listing.requests
        unknown = [each for each in ids if each not in known]
        if unknown:
            await self._listing.of(unknown)
        known = self._listing.requests
        return [known[each] for each in ids if each in known]

    async def _cancel(self, requests: Sequence[str]) -> ComputeError | None:
        """Cancel these; return a failure, since ending the instances must not wait for it."""
        if not requests:
            return None
        try:
            await self._aws.call(
                "CancelSpotInstanceRequests", SpotInstanceRequestIds=sorted(set(requests))
            )
        except Rejected as error:
            if not _code_in(error, NO_REQUEST):
                return error
            # One that EC2 does not know any more fails them all.
            if len(requests) == 1:
                _log.info("Spot request does not exist any more", error=str(error))
                return None
            failures = [await self._cancel([each]) for each in requests]
            return next((each for each in failures if each is not None), None)
        except ComputeError as error:
            return error
        return None

    async def _terminate(self, ids: Sequence[str]) -> None:
        """End *ids*; one that EC2 does not know would fail the whole call, so it is left out."""
        if not ids:
            return
        try:
            await self._aws.call("TerminateInstances", instances=len(ids), InstanceIds=list(ids))
        except Rejected as error:
            if not _code_in(error, NOT_FOUND):
                raise
            if len(ids) == 1:
                return  # not visible now, or terminated: `describe` shows which
            named = set(INSTANCE_ID.findall(str(error)))
            rest = [each for each in ids if each not in named]
            if named & set(ids):
                await self._terminate(rest)
            else:
                half = len(ids) // 2
                await self._terminate(ids[:half])
                await self._terminate(ids[half:])


def _code_in(error: ComputeError, codes: frozenset[str]) -> bool:
    cause = error.__cause__
    return isinstance(cause, Exception) and code_of(cause) in codes
