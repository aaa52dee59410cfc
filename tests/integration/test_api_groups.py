"""Group commit: requests during a write form the next group, and each gets its own result."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.api.group_commit import QUIET_TURNS, Groups, Stopping


class Writer:
    """Writes numbers, and returns each doubled. `poison` fails whatever group it is in."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.began = asyncio.Event()
        self.poison: dict[int, Exception] = {}

    async def write(self, group: Sequence[int]) -> list[int]:
        self.groups.append(list(group))
        self.began.set()
        await self.free.wait()
        for number in group:
            if number in self.poison:
                raise self.poison[number]
        return [2 * number for number in group]


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
async def groups(writer: Writer) -> AsyncIterator[Groups[int, int]]:
    groups = Groups(writer.write, limit=10, size=lambda number: number, stopping="bye")
    running = asyncio.create_task(groups.run())
    yield groups
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def joined(groups: Groups[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    """Start tasks that have joined on return, in this order."""
    tasks = [asyncio.create_task(groups.join(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def held(writer: Writer, groups: Groups[int, int]) -> asyncio.Task[int]:
    """Hold a group of one in its write until `writer.free` is set."""
    writer.free.clear()
    [first] = await joined(groups, 0)
    await writer.began.wait()
    return first


async def test_who_comes_alone_is_written_at_once(writer: Writer, groups: Groups[int, int]) -> None:
    assert await groups.join(3) == 6
    assert await groups.join(4) == 8
    assert writer.groups == [[3], [4]]


async def test_who_comes_meanwhile_is_the_next_group_up_to_its_limit(
    writer: Writer, groups: Groups[int, int]
) -> None:
    first = await held(writer, groups)
    others = await joined(groups, 4, 5, 2, 1, 20, 3)
    writer.free.set()
    assert await asyncio.gather(first, *others) == [0, 8, 10, 4, 2, 40, 6]
    assert writer.groups == [[0], [4, 5, 2], [1, 20], [3]]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_in_a_flood_who_is_on_the_way_joins(writer: Writer, groups: Groups[int, int]) -> None:
    first = await held(writer, groups)
    flood = await joined(groups, 1, 2)
    writer.free.set()
    await asyncio.gather(first, *flood)
    [one] = await joined(groups, 3)
    await turns(QUIET_TURNS - 1)
    [other] = await joined(groups, 4)
    assert (await one, await other) == (6, 8)
    assert writer.groups == [[0], [1, 2], [3, 4]]


async def test_in_a_flood_no_request_waits_for_one_that_does_not_come(
    writer: Writer, groups: Groups[int, int]
) -> None:
    first = await held(writer, groups)
    flood = await joined(groups, 1, 2)
    writer.free.set()
    await asyncio.gather(first, *flood)
    one = asyncio.create_task(groups.join(3))
    await turns(QUIET_TURNS + 5)  # no clock is waited for
    assert one.result() == 6
    assert await groups.join(4) == 8


async def test_in_a_flood_a_full_group_is_closed_at_once(
    writer: Writer, groups: Groups[int, int]
) -> None:
    first = await held(writer, groups)
    others = await joined(groups, 1, 2, 10, 9, 8)
    writer.free.set()
    await asyncio.gather(first, *others)
    assert writer.groups == [[0], [1, 2, 10], [9, 8]]


@pytest.fixture
async def abreast(writer: Writer) -> AsyncIterator[Groups[int, int]]:
    groups = Groups(writer.write, limit=10, size=lambda number: number, stopping="bye", beside=2)
    running = asyncio.create_task(groups.run())
    yield groups
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_full_group_is_written_beside_the_one_before_and_a_smaller_one_is_not(
    writer: Writer, abreast: Groups[int, int]
) -> None:
    first = await held(writer, abreast)
    small = await joined(abreast, 4, 5)
    await turns(20)
    assert writer.groups == [[0]]
    full = await joined(abreast, 1, 7, 2)
    await turns(20)
    assert writer.groups == [[0], [4, 5, 1]]  # and no third: two are being written
    writer.free.set()
    assert await asyncio.gather(first, *small, *full) == [0, 8, 10, 2, 14, 4]
    assert writer.groups == [[0], [4, 5, 1], [7, 2]]


async def test_at_a_stop_a_request_that_is_written_beside_another_is_answered_too(
    writer: Writer,
) -> None:
    groups = Groups(writer.write, limit=10, size=lambda number: number, stopping="bye", beside=2)
    running = asyncio.create_task(groups.run())
    first = await held(writer, groups)
    others = await joined(groups, 10, 11, 12)
    await turns(20)
    running.cancel()
    for each in (first, *others):
        with pytest.raises(Stopping, match="bye"):
            await each
    assert writer.groups == [[0], [10]]


async def test_what_cannot_be_written_fails_alone(writer: Writer, groups: Groups[int, int]) -> None:
    first = await held(writer, groups)
    writer.poison[2] = ValueError("poison")
    others = await joined(groups, 1, 2, 3)
    writer.free.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert results == [0, 2, writer.poison[2], 6]
    assert writer.groups == [[0], [1, 2, 3], [1], [2], [3]]


async def test_where_the_database_is_away_the_whole_group_is_answered_at_once(
    writer: Writer, groups: Groups[int, int]
) -> None:
    first = await held(writer, groups)
    writer.poison[2] = ConnectionError("away")
    others = await joined(groups, 1, 2, 3)
    writer.free.set()
    assert await first == 0
    assert await asyncio.gather(*others, return_exceptions=True) == [writer.poison[2]] * 3
    assert writer.groups == [[0], [1, 2, 3]]
    assert await groups.join(5) == 10  # and the next one is tried


async def test_a_cancelled_request_takes_no_other_along(
    writer: Writer, groups: Groups[int, int]
) -> None:
    first = await held(writer, groups)
    cancelled, other = await joined(groups, 1, 2)
    first.cancel()
    cancelled.cancel()
    writer.free.set()
    assert await other == 4


async def test_at_a_stop_waiting_requests_are_answered_and_none_waits_after_it(
    writer: Writer,
) -> None:
    groups = Groups(writer.write, limit=10, stopping="bye")
    running = asyncio.create_task(groups.run())
    first = await held(writer, groups)
    others = await joined(groups, 1, 2)
    running.cancel()
    for each in (first, *others, asyncio.create_task(groups.join(3))):
        with pytest.raises(Stopping, match="bye"):
            await each
    assert writer.groups == [[0]]
    assert running.cancelled()
