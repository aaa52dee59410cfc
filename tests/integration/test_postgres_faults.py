"""Postgres killed, frozen, full, or silent just when it commits: nothing is lost or done twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg
import pytest

from operations.wiring import TOPOLOGY
from services.scheduler.config import SchedulerConfig
from services.scheduler.service import build
from shared.bus.memory import MemoryBus
from shared.bus.port import Message
from shared.clock import RealClock, VirtualClock
from shared.crash_points import WatchedPoints
from shared.events.events import InstanceRequested, JobScheduled
from shared.events.requirements import Requirements
from shared.postgres.pool import (
    ACQUIRE_SECONDS,
    CONNECT_SECONDS,
    connect,
    is_transient,
    open_database,
)
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports, Service
from tests.support.api.api_world import World, message_of
from tests.support.compute.stage import Stage
from tests.support.rows.messages import as_message, events_in, wrapped
from tests.support.servers.breakable_postgres import BreakablePostgres

START = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NEEDS = Requirements(max_lifetime_seconds=3600)
QUEUE = "scheduler"
STATEMENT_SECONDS = 1.0
SILENT_SECONDS = STATEMENT_SECONDS + 5
"""A server that says nothing is given up after this."""

EMPTY = """
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT schemaname, tablename FROM pg_tables
        WHERE schemaname IN ('api', 'scheduler') AND tablename NOT LIKE '%migrations'
    LOOP
        EXECUTE format('DELETE FROM %I.%I', found.schemaname, found.tablename);
    END LOOP;
END $$
"""

FULL = """
CREATE FUNCTION {schema}.disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file: No space left';
END $$;
GRANT EXECUTE ON FUNCTION {schema}.disk_is_full() TO PUBLIC;
"""
ON_EVERY_ROW = """
CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON {table}
FOR EACH ROW EXECUTE FUNCTION {schema}.disk_is_full();
"""


@pytest.fixture(autouse=True)
async def empty(postgres: BreakablePostgres) -> None:
    """Empty table."""
    conn = await connect(postgres.admin_dsn)
    await conn.execute(EMPTY)
    await conn.close()


Open = Callable[..., Awaitable[Ports]]


@pytest.fixture
async def ports_at(
    postgres: BreakablePostgres, clock: VirtualClock, points: WatchedPoints
) -> AsyncIterator[Open]:
    """Open a service's ports, at another address if one is given; its bus is its own."""
    opened = []

    async def make(name: str, dsn: str | None = None, *, real_time: bool = False) -> Ports:
        address = dsn or postgres.dsn(name)
        time = RealClock() if real_time else clock
        db = await open_database(address, name, time, statement_seconds=STATEMENT_SECONDS)
        opened.append(db)
        wakeups = Wakeups(postgres.dsn(name), channel=name, identity="test")
        bus = MemoryBus({name: TOPOLOGY[name]})
        return Ports(db=db, bus=bus, clock=time, wakeups=wakeups, points=points)

    yield make
    for db in opened:
        await db.close()


def fact(job_id: int) -> JobScheduled:
    return JobScheduled(job_id=job_id, attempt=1, due_at=LONG_AGO, requirements=NEEDS)


def scheduled(job_id: int) -> Message:
    return as_message(wrapped(fact(job_id)))


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator["asyncio.Task[None]"]:
    """Run *service*, all of it, until the block ends; it must not have ended before."""
    task = asyncio.create_task(service.run())
    try:
        async with asyncio.timeout(90):
            yield task
        assert not task.done(), task
    finally:
        service.drain()
        await task


async def until(found: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Return once *found* finds it; a failed query is repeated."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(Exception):
                if await found():
                    return
            await asyncio.sleep(0.02)


class Tables:
    """Contents of the scheduler's tables, as the admin reads them."""

    def __init__(self, postgres: BreakablePostgres) -> None:
        self._postgres = postgres

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        conn = await connect(self._postgres.admin_dsn)
        try:
            return [dict(row) for row in await conn.fetch(sql)]
        finally:
            await conn.close()

    async def fired(self) -> list[int]:
        """Return the jobs whose instance was requested, one entry per request."""
        rows = await self.rows("SELECT name, body FROM scheduler.outbox")
        published = [each.body for each in events_in(rows)]
        return sorted(each.job_id for each in published if isinstance(each, InstanceRequested))

    async def parked(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM scheduler.parked")


@pytest.fixture
def tables(postgres: BreakablePostgres) -> Tables:
    return Tables(postgres)


# -- COMMIT: did it, or did it not?


@pytest.mark.parametrize("how", ["cut", "silent"])
async def test_an_event_whose_commit_has_an_unknown_outcome_is_not_acknowledged_and_counts_once(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables, how: Literal["cut", "silent"]
) -> None:
    async with postgres.wire() as way:
        ports = await ports_at(QUEUE, way.through(postgres.dsn(QUEUE)), real_time=True)
        service = build(SchedulerConfig(), ports)
        way.lose_next_commit(how)
        draining = asyncio.Event()
        consuming = asyncio.create_task(service._consumer.run(draining))
        publishing = asyncio.create_task(ports.bus.publish([scheduled(7)]))
        await way.lost.wait()
        assert len(await tables.rows("SELECT * FROM scheduler.timers")) == 1, "it had committed"
        assert not publishing.done(), "and it is unknown here: no acknowledgement"
        async with asyncio.timeout(3 * SILENT_SECONDS):
            await publishing
        draining.set()
        await consuming
    assert len(await tables.rows("SELECT * FROM scheduler.timers")) == 1
    assert await tables.parked() == []


async def test_a_sweep_whose_commit_has_an_unknown_outcome_does_nothing_twice(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables
) -> None:
    async with postgres.wire() as way:
        stage = Stage(
            build(SchedulerConfig(), await ports_at(QUEUE, way.through(postgres.dsn(QUEUE))))
        )
        await stage.deliver(fact(7))
        way.lose_next_commit("cut")
        with pytest.raises(Exception, match="connection") as caught:
            await stage.sweep("fire_due")
        assert is_transient(caught.value)
        assert await tables.fired() == [7], "it had committed"
        await stage.sweep("fire_due")
    assert await tables.fired() == [7]


async def test_a_job_whose_commit_has_an_unknown_outcome_is_a_503_and_its_key_finds_it(
    postgres: BreakablePostgres, ports_at: Open, clock: VirtualClock
) -> None:
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    headers = {"Idempotency-Key": "once"}
    async with postgres.wire() as way:
        world = World(await ports_at("api", way.through(postgres.dsn("api"))), clock)
        way.lose_next_commit("cut")
        lost = await world.http.post("/schedule", json=body, headers=headers)
        assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
        again = await world.http.post("/schedule", json=body, headers=headers)
        assert again.status_code == 201
        rows = await world.rows()
        await world.close()
    assert [row["id"] for row in rows["jobs"]] == [again.json()["id"]]
    assert len(rows["outbox"]) == 1


# -- the server killed and started again


@pytest.mark.timeout(240)
async def test_a_database_that_is_killed_under_load_loses_and_doubles_nothing(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables
) -> None:
    ports = await ports_at(QUEUE, real_time=True)
    every = list(range(1, 601))

    async def load() -> None:
        async with asyncio.TaskGroup() as group:
            for number in every:
                group.create_task(ports.bus.publish([scheduled(number)]))
                if number % 20 == 0:
                    await tables_hold(number // 3)

    async def tables_hold(count: int) -> None:
        """Let the load come as it is handled, so that the kills meet it on the way."""

        async def enough() -> bool:
            [row] = await tables.rows("SELECT count(*) AS n FROM scheduler.timers")
            return bool(row["n"] >= count)

        await until(enough)

    async with running(build(SchedulerConfig(), ports)):
        loading = asyncio.create_task(load())
        for count in (50, 200):
            await tables_hold(count)
            await asyncio.to_thread(postgres.kill)
            assert not await ports.db.ready()
            await asyncio.to_thread(postgres.start)
        await loading  # each event is acknowledged, or its publisher would wait still

        async def all_fired() -> bool:
            return len(await tables.fired()) >= len(every)

        await until(all_fired)
    assert await tables.fired() == every
    assert await tables.parked() == []


async def test_every_backend_cut_at_once_is_survived(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables
) -> None:
    ports = await ports_at(QUEUE, real_time=True)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'scheduler'"
    cuts = 0
    async with running(build(SchedulerConfig(), ports)):
        for number in range(1, 21):
            publishing = asyncio.create_task(ports.bus.publish([scheduled(number)]))
            cuts += len(await tables.rows(cut))
            await publishing

        async def all_fired() -> bool:
            return len(await tables.fired()) >= 20

        await until(all_fired)
    assert await tables.fired() == list(range(1, 21))
    assert cuts >= 20


# -- frozen


async def test_a_frozen_database_is_a_503_in_time_readiness_names_it_and_thawed_all_goes_on(
    postgres: BreakablePostgres, ports_at: Open, clock: VirtualClock
) -> None:
    world = World(await ports_at("api"), clock)
    agent = await world.running()
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    postgres.freeze()
    try:
        async with asyncio.timeout(5):
            ready = await world.http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"][0]) == (503, "database")
        assert message_of(ready).startswith("not ready: the database does not answer")
        assert (await world.http.get("/healthz")).status_code == 200
        # Each of them, though they are more than there are connections, and none after another.
        async with asyncio.timeout(2 * (SILENT_SECONDS + ACQUIRE_SECONDS + CONNECT_SECONDS)):
            answers = await asyncio.gather(
                *(world.http.get("/list") for _ in range(12)),
                world.http.post("/schedule", json=body),
                world.report(agent),
                world.call_back(agent, {}),
            )
        for answer in answers:
            assert answer.status_code == 503
            assert message_of(answer) == "the database does not answer now: try again"
    finally:
        postgres.thaw()
    assert (await world.http.get("/readyz")).status_code == 200
    assert (await world.call_back(agent, {})).status_code == 200
    assert (await world.status(agent.job_id))["status"] == "DONE"
    await world.close()


async def test_an_event_that_meets_a_frozen_database_takes_effect_once_when_it_thaws(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables
) -> None:
    ports = await ports_at(QUEUE, real_time=True)
    async with running(build(SchedulerConfig(), ports)):
        await ports.bus.publish([scheduled(1)])
        postgres.freeze()
        try:
            publishing = asyncio.create_task(ports.bus.publish([scheduled(2)]))
            done, _ = await asyncio.wait({publishing}, timeout=SILENT_SECONDS + 1)
            assert not done, "nothing is acknowledged that is not committed"
        finally:
            postgres.thaw()
        async with asyncio.timeout(30):
            await publishing

        async def both_fired() -> bool:
            return len(await tables.fired()) >= 2

        await until(both_fired)
    assert await tables.fired() == [1, 2]


async def test_a_service_stops_in_time_though_the_database_is_frozen(
    postgres: BreakablePostgres, ports_at: Open
) -> None:
    ports = await ports_at(QUEUE, real_time=True)
    service = build(SchedulerConfig(), ports)
    task = asyncio.create_task(service.run())
    await ports.bus.publish([scheduled(1)])
    postgres.freeze()
    try:
        publishing = asyncio.create_task(ports.bus.publish([scheduled(2)]))
        await asyncio.wait({publishing}, timeout=0.2)
        service.drain()
        async with asyncio.timeout(10):
            await task
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    finally:
        postgres.thaw()


# -- slow


SLOW = {
    "a statement that takes too long": "SELECT pg_sleep(30)",
    "a lock that is never given": "DELETE FROM scheduler.timers",
}


@pytest.mark.parametrize("what", SLOW)
async def test_what_takes_too_long_is_ended_by_the_server_and_may_be_tried_again(
    postgres: BreakablePostgres, ports_at: Open, what: str
) -> None:
    ports = await ports_at(QUEUE)
    holder = await connect(postgres.admin_dsn)
    async with holder.transaction():
        await holder.execute("LOCK TABLE scheduler.timers IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(SILENT_SECONDS):
            with pytest.raises(asyncpg.PostgresError, match="canceling statement") as caught:
                async with ports.db.transaction() as tx:
                    await tx.conn.execute(SLOW[what])
    await holder.close()
    assert is_transient(caught.value)
    assert await ports.db.ready()


async def test_a_transaction_that_is_left_open_is_ended_by_the_server_and_may_be_tried_again(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables
) -> None:
    ports = await ports_at(QUEUE)

    async def linger() -> None:
        async with ports.db.transaction() as tx:
            pid = await tx.conn.fetchval("SELECT pg_backend_pid()")

            async def has_ended() -> bool:
                return not await tables.rows(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}")  # noqa: S608

            await until(has_ended)
            await tx.conn.execute("SELECT 1")

    with pytest.raises(Exception, match=r"clos|idle|died") as caught:
        await linger()
    assert is_transient(caught.value)
    assert await ports.db.ready()


# -- full


@contextlib.asynccontextmanager
async def full_disk(postgres: BreakablePostgres, schema: str, *tables: str) -> AsyncIterator[None]:
    """Make Postgres refuse each row of *tables* as it does if the disk is full (53100)."""
    conn = await connect(postgres.admin_dsn)
    try:
        await conn.execute(FULL.format(schema=schema))
        for table in tables:
            await conn.execute(ON_EVERY_ROW.format(schema=schema, table=f"{schema}.{table}"))
        yield
        await conn.execute(f"DROP FUNCTION {schema}.disk_is_full() CASCADE")
    finally:
        await conn.close()


async def test_while_the_disk_is_full_nothing_is_acknowledged_and_afterwards_all_takes_effect(
    postgres: BreakablePostgres, ports_at: Open, tables: Tables
) -> None:
    ports = await ports_at(QUEUE, real_time=True)
    async with running(build(SchedulerConfig(), ports)):
        async with full_disk(postgres, "scheduler", "inbox", "parked", "outbox"):
            publishing = asyncio.create_task(
                ports.bus.publish([scheduled(number) for number in range(1, 6)])
            )
            done, _ = await asyncio.wait({publishing}, timeout=1)
            assert not done
        async with asyncio.timeout(30):
            await publishing

        async def all_fired() -> bool:
            return len(await tables.fired()) >= 5

        await until(all_fired)
    assert await tables.fired() == [1, 2, 3, 4, 5]
    assert await tables.parked() == []


async def test_while_the_disk_is_full_no_job_is_accepted_and_what_is_there_is_still_shown(
    postgres: BreakablePostgres, ports_at: Open, clock: VirtualClock
) -> None:
    world = World(await ports_at("api"), clock)
    job_id = (await world.post())["id"]
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    async with full_disk(postgres, "api", "jobs", "attempts", "outbox"):
        for answer in (
            await world.http.post("/schedule", json=body),
            await world.http.post("/schedule", json=body, headers={"Idempotency-Key": "k"}),
            await world.cancel(job_id),
        ):
            assert answer.status_code == 503
            assert message_of(answer) == "the database has no disk space left now: try again"
        assert (await world.status(job_id))["status"] == "SCHEDULED"
        ready = await world.http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"][0]) == (503, "database")
        assert "has no disk space left" in message_of(ready)
    again = await world.http.post("/schedule", json=body, headers={"Idempotency-Key": "k"})
    assert again.status_code == 201
    await world.close()


async def test_a_connection_for_wake_ups_that_is_dead_without_a_sign_is_replaced(
    postgres: BreakablePostgres,
) -> None:
    dsn = postgres.dsn(QUEUE)
    async with postgres.wire() as wire:
        deaf = Wakeups(wire.through(dsn), QUEUE, "deaf", ping_seconds=0.2)
        other = Wakeups(dsn, QUEUE, "other")
        woken, connected = deaf.event("fire_due"), other.event("connected")
        running = [asyncio.create_task(each.run()) for each in (deaf, other)]
        try:
            async with asyncio.timeout(30):
                await woken.wait()  # by the connection itself
                await connected.wait()
                wire.silence_all()
                woken.clear()
                await woken.wait()  # by the next connection: something may have been missed
                woken.clear()
                other.wake("fire_due")
                await woken.wait()
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
