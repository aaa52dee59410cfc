"""Many agents at once: one transaction serves them, and each is answered as if it were alone."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
import pytest

from services.api.jobs import unit_of_work
from services.api.logs import store as log_store
from shared.clock import VirtualClock
from shared.postgres.pool import Connection, Database
from tests.integration.test_api_handlers import locked
from tests.support.api.api_world import Agent, World, instance_of, message_of, token_of
from tests.support.compute.stage import crashing

FAILED = {"failed": "", "error_message": "Some message", "exit_code": 3}
STOPPED = {"schedule": "", "stopped": True, "exit_code": 143}
MANY = 20

Asked = Coroutine[Any, Any, httpx.Response]


class CountedDatabase(Database):
    """Counts the transactions, and the statements in and outside of them."""

    def __init__(self, db: Database) -> None:
        super().__init__(db._pool, db.clock, db.dsn, db.schema, "test")
        self.statements: list[str] = []

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with super().connection() as conn:
            conn.add_query_logger(self._count)
            try:
                yield conn
            finally:
                conn.remove_query_logger(self._count)

    def _count(self, record: Any) -> None:
        self.statements.append(record.query)

    @property
    def transactions(self) -> int:
        return sum(each.startswith("BEGIN") for each in self.statements)


@pytest.fixture
async def counted(world: World) -> AsyncIterator[tuple[World, CountedDatabase]]:
    """Make a process of the API that counts its statements."""
    db = CountedDatabase(world.ports.db)
    counted = World(dataclasses.replace(world.ports, db=db), world.clock)
    yield counted, db
    await counted.close()


@contextlib.asynccontextmanager
async def busy(world: World) -> AsyncIterator[None]:
    """Hold a group of one in its write during the block: later calls join the next group."""
    agent = await world.running()
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
        first = asyncio.create_task(world.report(agent, lines=["first"]))
        await locked(world)
        yield
    assert (await first).status_code == 200


async def start_calls(world: World, *asked: Asked) -> list[asyncio.Task[httpx.Response]]:
    """Start these calls, in this order; all of them wait by now."""
    waiting = world.api.agents._calls._waiting
    tasks = []
    for each in asked:
        before = len(waiting)
        tasks.append(asyncio.create_task(each))
        while len(waiting) == before:  # noqa: ASYNC110 - asyncio has no event for it
            await asyncio.sleep(0)
    return tasks


async def answers(tasks: list[asyncio.Task[httpx.Response]]) -> list[int]:
    return [(await each).status_code for each in tasks]


async def launched(world: World) -> int:
    job_id = int((await world.post())["id"])
    await world.deliver(world.launched(job_id))
    return job_id


async def agents_of(world: World, count: int) -> list[Agent]:
    return [await world.running() for _ in range(count)]


# -- how many transactions


async def test_calls_that_come_while_a_group_is_written_are_one_transaction(
    counted: tuple[World, CountedDatabase],
) -> None:
    world, db = counted
    agents = await agents_of(world, MANY)
    claims = [await launched(world) for _ in range(MANY)]
    async with busy(world):
        db.statements.clear()
        tasks = await start_calls(
            world,
            *(world.claim(job_id) for job_id in claims),
            *(world.report(each, phase="stopping", lines=["bye"]) for each in agents),
            *(world.call_back(each, FAILED) for each in agents),
        )
    assert await answers(tasks) == [200] * 3 * MANY
    assert db.transactions == 1
    for sql in (
        unit_of_work.LOCK_FREE_JOBS,
        unit_of_work.LOAD_THEIR_ATTEMPTS,
        log_store.KEEP_BATCHES,
    ):
        assert db.statements.count(sql) == 2, "the first one's, and all the others'"
    assert db.statements.count(unit_of_work.SAVE) == 1, "the first one has lines alone"
    names = await world.published()
    assert names.count("JobFinished") == MANY
    for each in agents:
        assert await world.logs(each.job_id) == "bye\n"
        assert (await world.status(each.job_id))["status"] == "FAILED"


async def test_one_agent_alone_waits_for_no_other(
    counted: tuple[World, CountedDatabase],
) -> None:
    world, db = counted
    agent = await world.running()
    db.statements.clear()
    assert (await world.call_back(agent, FAILED)).status_code == 200
    assert db.transactions == 1
    assert len(db.statements) <= 6


async def test_plain_heartbeats_of_many_are_one_statement_and_no_transaction(
    counted: tuple[World, CountedDatabase], clock: VirtualClock
) -> None:
    world, db = counted
    agents = await agents_of(world, MANY)
    clock.advance(5)
    db.statements.clear()
    beats = await asyncio.gather(*(world.report(each) for each in agents))
    assert {each.status_code for each in beats} == {200}
    assert db.transactions == 0
    assert len(db.statements) <= 2, "the first one may have been alone"
    query = "SELECT DISTINCT heartbeat_at FROM attempts"
    assert [each["heartbeat_at"] for each in await world.stage.rows(query)] == [clock.now()]


# -- each for himself


async def test_an_agent_whose_call_cannot_be_decided_fails_alone(world: World) -> None:
    agents = await agents_of(world, 5)
    poison = agents[2]
    async with world.ports.db.connection() as conn:
        spoil = "UPDATE attempts SET entered = '[]' WHERE job_id = $1"
        await conn.execute(spoil, poison.job_id)
    async with busy(world):
        tasks = await start_calls(world, *(world.call_back(each, FAILED) for each in agents))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [
        each.job_id
        for each, answer in zip(agents, results, strict=True)
        if not isinstance(answer, httpx.Response) or answer.status_code != 200
    ]
    assert failed == [poison.job_id]
    assert (await world.published()).count("JobFinished") == 4


async def test_a_refused_call_fails_no_other_and_gets_the_reason(world: World) -> None:
    agent, cancelled, claimed = await agents_of(world, 3)
    await world.cancel(cancelled.job_id)
    async with busy(world):
        tasks = await start_calls(
            world,
            world.call_back(cancelled, {}),
            world.claim(claimed.job_id, token=token_of(claimed.job_id, 1, "another")),
            world.call_back(agent, {}),
            world.report(cancelled, lines=["bye"]),
        )
    assert await answers(tasks) == [409, 409, 200, 409]
    over, twice, _, kept = [(await each).json() for each in tasks]
    assert over["message"] == "attempt 1 is over: cancelled"
    assert twice["message"] == "attempt 1 is already claimed"
    assert kept["kept"] is True
    assert await world.logs(cancelled.job_id) == "bye\n"
    assert (await world.status(agent.job_id))["status"] == "DONE"


async def test_the_calls_of_one_agent_are_decided_in_their_order(world: World) -> None:
    agent = await world.claimed((await world.post())["id"])
    async with busy(world):
        tasks = await start_calls(
            world,
            world.claim(agent.job_id),  # its answer was lost
            world.report(agent, phase="running", lines=["one"], seq=1),
            world.report(agent, lines=["one"], seq=1),
            world.report(agent, lines=["two"], seq=2),
            world.call_back(agent, FAILED),
            world.call_back(agent, FAILED),
            world.call_back(agent, {}),
            world.report(agent, phase="stopping"),
        )
    assert await answers(tasks) == [200, 200, 200, 200, 200, 200, 409, 409]
    assert (await tasks[0]).json()["job"]["id"] == agent.job_id
    assert await world.logs(agent.job_id) == "one\ntwo\n"
    names = await world.published()
    assert names[names.index("JobStarted", 3) :] == ["JobStarted", "AttemptEnded", "JobFinished"]
    [attempt] = (await world.status(agent.job_id))["attempts"]
    assert attempt["cause"] == "failed"


async def test_a_replacement_is_made_and_claimed_in_one_group(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {"schedule": ""})
    async with busy(world):
        tasks = await start_calls(
            world,
            world.claim(agent.job_id, 2),
            world.call_back(agent, STOPPED),
            world.claim(agent.job_id, 2),
        )
    assert await answers(tasks) == [202, 200, 200]
    first, second = (await world.status(agent.job_id))["attempts"]
    assert (first["cause"], second["cause"]) == ("interrupted", None)


async def test_of_a_token_in_two_claims_of_one_group_the_second_is_refused(world: World) -> None:
    one, two = await launched(world), await launched(world)
    async with busy(world):
        tasks = await start_calls(
            world,
            world.claim(one),
            world.claim(two, token=token_of(one, 1), instance=instance_of(two, 1)),
        )
    assert await answers(tasks) == [200, 409]
    assert message_of(await tasks[1]) == "this token belongs to another attempt"


async def test_a_token_that_another_process_binds_just_now_is_refused(world: World) -> None:
    one, two = await launched(world), await launched(world)
    async with world.ports.db.transaction() as tx:
        bound = "UPDATE attempts SET token_hash = sha256($1) WHERE job_id = $2"
        await tx.conn.execute(bound, token_of(one, 1).encode(), one)
        # It is not seen before it is committed; but the index knows of it.
        claim = asyncio.create_task(
            world.claim(two, token=token_of(one, 1), instance=instance_of(two, 1))
        )
        await locked(world)
    assert (await claim).status_code == 409
    assert message_of(await claim) == "this token belongs to another attempt"


async def test_two_processes_serve_many_agents_at_once(world: World) -> None:
    other = world.again()
    agents = await agents_of(world, MANY)
    tasks = [each.call_back(agent, FAILED) for agent in agents for each in (world, other)]
    assert {each.status_code for each in await asyncio.gather(*tasks)} == {200}
    assert (await world.published()).count("JobFinished") == MANY
    await other.close()


# -- locks


async def test_a_heartbeat_needs_no_lock_of_its_job(world: World, clock: VirtualClock) -> None:
    agent = await world.running()
    clock.advance(5)
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("SELECT 1 FROM jobs FOR UPDATE")
        assert (await world.report(agent)).status_code == 200
    [attempt] = (await world.rows())["attempts"]
    assert attempt["heartbeat_at"] == "2026-01-01T00:00:05+00:00"


async def test_a_heartbeat_waits_for_whoever_saves_its_attempt_and_alone(world: World) -> None:
    agent, other = await agents_of(world, 2)
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("SELECT 1 FROM attempts WHERE job_id = $1 FOR UPDATE", agent.job_id)
        waits = asyncio.create_task(world.report(agent))
        await locked(world)
        assert (await world.report(other)).status_code == 200
        assert not waits.done()
    assert (await waits).status_code == 200


async def test_a_call_about_a_locked_job_waits_alone(world: World) -> None:
    agent, other = await agents_of(world, 2)
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", agent.job_id)
        waits = asyncio.create_task(world.call_back(agent, FAILED))
        await locked(world)
        assert (await world.call_back(other, FAILED)).status_code == 200
        assert not waits.done()
    assert (await waits).status_code == 200
    assert (await world.published()).count("JobFinished") == 2


# -- ends


async def test_a_call_that_waits_when_the_service_stops_is_refused_and_nothing_is_half_done(
    world: World,
) -> None:
    agent, other = await agents_of(world, 2)
    before = await world.rows()
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
        first = asyncio.create_task(world.report(agent, phase="stopping", lines=["bye"]))
        await locked(world)
        rest = await start_calls(world, world.call_back(other, FAILED), world.claim(other.job_id))
        await world.close_groups()
    assert await answers([first, *rest]) == [503, 503, 503]
    assert message_of(await first) == "the service is stopping: try again"
    assert (await world.report(agent)).status_code == 503
    assert await world.rows() == before


@pytest.mark.parametrize(
    ("point", "ends"),
    [("api.callback_before_commit", 0), ("api.callback_committed", 1)],
)
async def test_a_callback_is_recorded_once_wherever_the_process_dies(
    world: World, point: str, ends: int
) -> None:
    agent = await world.running()
    dying = World(crashing(world.ports, point), world.clock)
    assert (await dying.call_back(agent, FAILED)).status_code == 500
    await dying.close()
    assert (await world.published()).count("JobFinished") == ends
    assert (await world.call_back(agent, FAILED)).json()["status"] == "FAILED"
    assert (await world.published()).count("JobFinished") == 1


async def test_a_claim_whose_answer_died_with_the_process_is_given_again(world: World) -> None:
    job_id = await launched(world)
    dying = World(crashing(world.ports, "api.claimed"), world.clock)
    assert (await dying.claim(job_id)).status_code == 500
    await dying.close()
    assert (await world.claim(job_id)).status_code == 200
