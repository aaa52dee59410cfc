"""The types that the zones offer, from answers that the strict EC2 does not give."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.clock import VirtualClock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.zone_types import ZoneTypes, ZoneTypesReader
from shared.compute.port import ComputeError, Misconfigured, Throttled, Unknown

ROW = {"InstanceType": "m5.large", "Location": "zone-a", "LocationType": "availability-zone"}
ZONES = ("zone-a", "zone-b")


class Scripted(Aws):
    """An AWS that answers each call with the next of *answers*, then with the last one."""

    def __init__(self, *answers: list[dict[str, Any]] | ComputeError) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    async def read_all(
        self, action: str, key: str, *, service: str = "ec2", **parameters: Any
    ) -> list[dict[str, Any]]:
        self.asked.append([each["Name"] for each in parameters["Filters"]])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ComputeError):
            raise answer
        return answer


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))


async def test_the_answer_is_kept_for_a_day(clock: VirtualClock) -> None:
    aws = Scripted([ROW])
    reader = ZoneTypesReader(aws, clock)
    for _ in range(2):
        known = await reader.read(ZONES)
        assert known.has("m5.large", "zone-a")
        assert not known.has("m5.large", "zone-b")
    assert aws.asked == [["location"]]
    clock.advance(86_400)
    await reader.read(ZONES)
    assert len(aws.asked) == 2


async def test_names_are_asked_for_in_all_zones_of_the_region(clock: VirtualClock) -> None:
    aws = Scripted([{**ROW, "Location": "zone-c"}])
    known = await ZoneTypesReader(aws, clock).read(ZONES, ["m5.large"])
    assert aws.asked == [["instance-type"]]
    assert known.has_anywhere("m5.large")
    assert not known.has("m5.large", "zone-a")


async def test_no_line_for_the_names_counts_where_other_types_are_listed(
    clock: VirtualClock,
) -> None:
    known = await ZoneTypesReader(Scripted([], [ROW]), clock).read(ZONES, ["c5.large"])
    assert not known.has_anywhere("c5.large")
    emulator = await ZoneTypesReader(Scripted([]), clock).read(ZONES, ["c5.large"])
    assert emulator == ZoneTypes()
    assert emulator.has("c5.large", "zone-b")


@pytest.mark.parametrize(
    ("error", "pause", "may_be_listed"),
    [
        (Misconfigured("UnauthorizedOperation", change=""), 600, False),
        (Misconfigured("InvalidAction", change=""), 600, False),
        (Unknown("InternalError"), 30, True),
        (Throttled("RequestLimitExceeded"), 30, True),
    ],
)
async def test_a_call_that_fails_holds_nothing_up_and_is_made_again_later(
    clock: VirtualClock, error: ComputeError, pause: int, *, may_be_listed: bool
) -> None:
    aws = Scripted(error, [ROW])
    reader = ZoneTypesReader(aws, clock)
    for _ in range(3):
        assert await reader.read(ZONES) == ZoneTypes(may_be_listed=may_be_listed)
    assert len(aws.asked) == 1
    clock.advance(pause)
    assert (await reader.read(ZONES)).pools == frozenset({("m5.large", "zone-a")})


async def test_a_failed_look_for_names_leaves_what_is_known_of_the_zones(
    clock: VirtualClock,
) -> None:
    aws = Scripted([ROW], Throttled("RequestLimitExceeded"))
    reader = ZoneTypesReader(aws, clock)
    known = await reader.read(ZONES)
    assert (await reader.read(ZONES, ["c5.large"])).may_be_listed
    assert await reader.read(ZONES) == known
    assert len(aws.asked) == 2
