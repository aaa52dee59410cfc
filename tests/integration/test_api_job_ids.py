"""The ids of new jobs: never one twice, in order, and in a flood by the block."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.api.submission.job_ids import BLOCK, KEEP_SECONDS, JobIds
from shared.clock import VirtualClock
from shared.postgres.pool import Database


@pytest.fixture
async def db(service_db: Callable[[str], Awaitable[Database]]) -> Database:
    return await service_db("api")


async def take(db: Database, ids: JobIds, count: int) -> list[int]:
    async with db.connection() as conn:
        return await ids.take(conn, count)


async def last_given(db: Database) -> int:
    async with db.connection() as conn:
        return int(await conn.fetchval("SELECT pg_sequence_last_value('jobs_id_seq')"))


async def test_whoever_asks_seldom_leaves_no_gap(db: Database, clock: VirtualClock) -> None:
    ids = JobIds(clock)
    taken = []
    for count in (1, 3, 1):
        taken += await take(db, ids, count)
        clock.advance(KEEP_SECONDS)
    assert taken == [1, 2, 3, 4, 5]


async def test_a_flood_asks_for_blocks(db: Database, clock: VirtualClock) -> None:
    ids = JobIds(clock)
    taken = [each for _ in range(BLOCK) for each in await take(db, ids, 1)]
    assert taken == list(range(1, BLOCK + 1))
    assert await last_given(db) == 2 * BLOCK - 1  # 1 + 2 + 4 + …
    assert await take(db, ids, 4 * BLOCK) == list(range(BLOCK + 1, 5 * BLOCK + 1))
    assert await last_given(db) == 5 * BLOCK  # of more than a block only what is missing


async def test_two_processes_and_many_tasks_never_have_the_same_id(
    db: Database, clock: VirtualClock
) -> None:
    one, other = JobIds(clock), JobIds(clock)
    counts = [1, 7, 300, 2, 1, 40] * 10
    groups = await asyncio.gather(*(take(db, ids, n) for n in counts for ids in (one, other)))
    assert all(group == sorted(group) for group in groups)
    taken = [each for group in groups for each in group]
    assert len(taken) == len(set(taken)) == 2 * sum(counts)


async def test_a_block_of_before_is_not_used_when_others_have_gone_on(
    db: Database, clock: VirtualClock
) -> None:
    """Otherwise a new job would stand behind all of theirs in `/list`."""
    one, other = JobIds(clock), JobIds(clock)
    for _ in range(10):
        await take(db, one, 1)
    theirs = await take(db, other, 1000)
    clock.advance(KEEP_SECONDS)
    assert (await take(db, one, 1))[0] > theirs[-1]


async def test_a_clock_that_jumps_back_keeps_no_block(db: Database, clock: VirtualClock) -> None:
    ids = JobIds(clock)
    for _ in range(10):
        await take(db, ids, 1)
    before = await last_given(db)
    clock.advance(-3600)
    assert await take(db, ids, 1) == [before + 1]
