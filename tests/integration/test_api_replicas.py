"""Two replicas of the API on one database: a follower of either sees at once what the other does.

The clock stands still, so no follower looks by itself: what it sees, it was woken for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.clock import VirtualClock
from shared.postgres.pool import connect
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports
from tests.support.api.api_world import World
from tests.support.api.event_stream import EventReader, StreamEvent, following, serving

LISTENERS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'
"""


@contextlib.asynccontextmanager
async def listening(world: World, identity: str) -> AsyncIterator[World]:
    """Make another replica of *world*, whose wake-ups travel; stop when it is left."""
    shared = world.ports
    wakeups = Wakeups(shared.db.dsn, channel="api", identity=identity)
    ports = Ports(
        db=shared.db, bus=shared.bus, clock=shared.clock, wakeups=wakeups, points=shared.points
    )
    replica = World(ports, world.clock)
    connected = wakeups.event("connected")  # a new connection sets every event
    running = asyncio.create_task(wakeups.run())
    async with asyncio.timeout(20):
        await connected.wait()
    try:
        yield replica
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await replica.close()


@pytest.fixture
async def one(fresh_world: World) -> AsyncIterator[World]:
    async with listening(fresh_world, "one") as replica:
        yield replica


@pytest.fixture
async def other(fresh_world: World) -> AsyncIterator[World]:
    async with listening(fresh_world, "other") as replica:
        yield replica


@pytest.fixture
async def http(one: World) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the one replica."""
    async with serving(one) as client:
        yield client


@contextlib.asynccontextmanager
async def log_of(http: httpx.AsyncClient, job_id: int) -> AsyncIterator[EventReader]:
    path = f"/jobs/{job_id}/logs?follow=1"
    async with asyncio.timeout(30), http.stream("GET", path) as answer:
        yield EventReader(answer)


async def test_a_log_is_followed_on_one_while_the_agent_reports_to_the_other(
    http: httpx.AsyncClient, other: World
) -> None:
    agent = await other.running()
    async with log_of(http, agent.job_id) as log:
        for seq, text in enumerate(("one", "two", "three"), start=1):
            await other.report(agent, lines=[text], seq=seq)
            assert (await log.upcoming()).data["text"] == text
        await other.call_back(agent, {})
        assert (await log.upcoming()).name == "end"


async def test_changes_are_followed_on_one_while_they_happen_on_the_other(
    http: httpx.AsyncClient, other: World
) -> None:
    async with following(http) as events:
        await events.begun()
        job_id = (await other.post())["id"]
        assert [each["status"] for each in await events.take(1)] == ["SCHEDULED"]
        await other.deliver(other.launched(job_id))
        assert [each["phase"] for each in await events.take(1)] == ["booting"]
        await other.cancel(job_id)
        assert [each["status"] for each in await events.take(1)] == ["CANCELLED"]


async def test_what_happens_while_the_connection_for_wake_ups_is_cut_is_seen_when_it_is_back(
    http: httpx.AsyncClient, other: World, database_url: str
) -> None:
    agent = await other.running()
    admin = await connect(database_url)
    async with log_of(http, agent.job_id) as log, following(http) as events:
        await events.begun()
        await other.report(agent, lines=["one"])
        assert (await log.upcoming()).data["text"] == "one"
        try:
            for row in await admin.fetch(LISTENERS):
                await admin.execute("SELECT pg_terminate_backend($1)", row["pid"])
        finally:
            await admin.close()
        await other.report(agent, lines=["two"], seq=2)
        await other.call_back(agent, {})
        assert (await log.upcoming()).data["text"] == "two"
        assert (await log.upcoming()).name == "end"
        assert [each["status"] for each in await events.take(1)] == ["DONE"]


async def as_time_passes(clock: VirtualClock, stream: EventReader) -> StreamEvent:
    """Return the next event, with steps of the clock until it comes."""
    upcoming = asyncio.create_task(stream.upcoming())
    while not upcoming.done():
        clock.advance(15)
        await asyncio.wait({upcoming}, timeout=0.05)
    return await upcoming


async def test_a_follower_whom_nothing_wakes_looks_by_itself(
    fresh_world: World, clock: VirtualClock
) -> None:
    """The connection for wake-ups may be dead without a sign."""
    agent = await fresh_world.running()
    await fresh_world.report(agent, lines=["one"])
    deaf = World(
        Ports(
            db=fresh_world.ports.db,
            bus=fresh_world.ports.bus,
            clock=clock,
            wakeups=Wakeups(fresh_world.ports.db.dsn, channel="api", identity="deaf"),
            points=fresh_world.ports.points,
        ),
        clock,
    )
    try:
        async with serving(deaf) as http, log_of(http, agent.job_id) as log:
            assert (await log.upcoming()).data["text"] == "one"
            await fresh_world.report(agent, lines=["two"], seq=2)
            assert (await as_time_passes(clock, log)).data["text"] == "two"
        async with serving(deaf) as http, following(http) as events:
            await events.begun()
            await fresh_world.cancel(agent.job_id)
            assert (await as_time_passes(clock, events)).data["status"] == "CANCELLED"
    finally:
        await deaf.close()
