"""The types that the deployment's zones offer: a zone may lack any type, and some have few.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from shared.clock import Clock
from shared.compute.ec2.cache import Cache
from shared.compute.ec2.client import Aws
from shared.compute.ec2.shapes import filters
from shared.compute.port import ComputeError, Throttled, Unknown
from shared.log import get_logger

_log = get_logger(part="ec2")

KNOWN_SECONDS = 86_400.0

FORBIDDEN_SECONDS = 600.0
FAILED_SECONDS = 30.0
"""The pauses after a call that is not permitted, or that an emulator lacks, and after a failure."""

PAGE = 1000
"""The most that EC2 lists at once; six zones have some 6,400."""


class ZoneTypes(Struct, frozen=True):
    """The types by zone. *pools*: each type and its zone; None: EC2 does not list them.

    *may_be_listed*: the call has failed, and is made again soon.
    """

    pools: frozenset[tuple[str, str]] | None = None
    may_be_listed: bool = False

    def has(self, instance_type: str, zone: str) -> bool:
        """Return whether the zone offers the type, as far as is known."""
        return self.pools is None or (instance_type, zone) in self.pools

    def has_anywhere(self, instance_type: str) -> bool:
        """Return whether any zone offers the type: of the region, if its name was asked for."""
        return self.pools is None or any(name == instance_type for name, _ in self.pools)


class ZoneTypesReader:
    """Reads them, once a day. Launches go on without: EC2 then refuses what a zone lacks."""

    def __init__(self, aws: Aws, clock: Clock) -> None:
        self._aws = aws
        self._clock = clock
        self._cache = Cache(clock)
        self._without = ZoneTypes()
        self._without_until: datetime | None = None
        self._is_warned = False

    async def read(self, zones: Sequence[str], names: Sequence[str] = ()) -> ZoneTypes:
        """Return the types of *zones*; those with *names* in all zones of the region."""
        named, here = {"instance_type": sorted(names)}, {"location": sorted(zones)}
        rests = self._without_until is not None and self._clock.now() < self._without_until
        if rests and not self._cache.is_known(str(named if names else here), KNOWN_SECONDS):
            return self._without
        try:
            listed = frozenset[tuple[str, str]]()
            if names:
                listed = await self._listed(**named)
            # No line for the names may be right, or that of an emulator that lists nothing.
            listed = listed or await self._listed(**here)
        except ComputeError as error:
            is_failure = isinstance(error, (Throttled, Unknown))
            return self._go_on_without(str(error), is_failure=is_failure)
        if not listed:
            return self._go_on_without("it lists no types", is_failure=False)
        self._is_warned = False
        return ZoneTypes(listed)

    async def _listed(self, **chosen: Sequence[str]) -> frozenset[tuple[str, str]]:
        async def ask() -> frozenset[tuple[str, str]]:
            shown = await self._aws.read_all(
                "DescribeInstanceTypeOfferings",
                "InstanceTypeOfferings",
                LocationType="availability-zone",
                Filters=filters(**chosen),
                MaxResults=PAGE,
            )
            return frozenset((each["InstanceType"], each["Location"]) for each in shown)

        return await self._cache.get(str(chosen), KNOWN_SECONDS, ask)

    def _go_on_without(self, why: str, *, is_failure: bool) -> ZoneTypes:
        if not self._is_warned:
            _log.warning("EC2 does not list the types of its zones", error=why)
        self._is_warned = True
        pause = FAILED_SECONDS if is_failure else FORBIDDEN_SECONDS
        self._without_until = self._clock.now() + timedelta(seconds=pause)
        self._without = ZoneTypes(may_be_listed=is_failure)
        return self._without
