"""What a report of an agent writes: no more than what it changes."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from shared.clock import VirtualClock
from shared.postgres.pool import Connection, Database, Transaction
from tests.support.api.api_world import Agent, World

UPDATES = """
SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables
WHERE relname IN ('jobs', 'attempts')
"""

Updates = dict[str, tuple[int, int]]


class MeasuredDatabase(Database):
    """Counts the rows that each transaction updates: all of them, and those within their page."""

    def __init__(self, db: Database) -> None:
        super().__init__(db._pool, db.clock, db.dsn, db.schema, "test")
        self.updates: list[Updates] = []

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as tx:
            before = await counted(tx.conn)
            yield tx
            after = await counted(tx.conn)
            self.updates.append(
                {
                    name: (after[name][0] - all_, after[name][1] - hot)
                    for name, (all_, hot) in before.items()
                }
            )


async def counted(conn: Connection) -> Updates:
    """Return the updates of this session that are not in the table's statistics yet."""
    rows = await conn.fetch(UPDATES)
    return {row["relname"]: (row["n_tup_upd"], row["n_tup_hot_upd"]) for row in rows}


@pytest.fixture
async def measured(world: World) -> AsyncIterator[tuple[World, MeasuredDatabase]]:
    db = MeasuredDatabase(world.ports.db)
    measured = World(dataclasses.replace(world.ports, db=db), world.clock)
    yield measured, db
    await measured.close()


async def heartbeat(world: World, agent: Agent) -> str:
    [row] = [each for each in (await world.rows())["attempts"] if each["job_id"] == agent.job_id]
    return str(row["heartbeat_at"])


async def test_a_log_batch_updates_its_attempt_once_within_its_page_and_no_job(
    measured: tuple[World, MeasuredDatabase], clock: VirtualClock
) -> None:
    world, db = measured
    agent = await world.running()
    before = (await world.rows())["jobs"]
    clock.advance(5)
    db.updates.clear()
    for seq in range(1, 4):
        assert (await world.report(agent, lines=["a line"], seq=seq)).status_code == 200
    assert db.updates == [{"attempts": (1, 1), "jobs": (0, 0)}] * 3
    assert (await world.rows())["jobs"] == before
    assert await heartbeat(world, agent) == "2026-01-01T00:00:05+00:00"
    assert await world.logs(agent.job_id) == "a line\n" * 3


async def test_a_repeated_batch_is_a_heartbeat_and_nothing_else(
    measured: tuple[World, MeasuredDatabase], clock: VirtualClock
) -> None:
    world, db = measured
    agent = await world.running()
    await world.report(agent, lines=["a line"], seq=1)
    clock.advance(5)
    db.updates.clear()
    assert (await world.report(agent, lines=["a line"], seq=1)).status_code == 200
    assert (await world.report(agent, phase="running")).status_code == 200  # it runs already
    assert db.updates == [{"attempts": (1, 1), "jobs": (0, 0)}] * 2
    assert await heartbeat(world, agent) == "2026-01-01T00:00:05+00:00"
    assert await world.logs(agent.job_id) == "a line\n"


async def test_lines_of_an_attempt_that_has_ended_are_no_heartbeat(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.cancel(agent.job_id)
    before = await heartbeat(world, agent)
    clock.advance(1)
    assert (await world.report(agent, lines=["bye"])).json()["kept"] is True
    assert await heartbeat(world, agent) == before
    assert await world.logs(agent.job_id) == "bye\n"
