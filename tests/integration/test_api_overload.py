"""Every queue of the API in memory has a bound, and an answer beyond it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import httpx
import pytest
from starlette.routing import Route

from services.api.agents.calls import REMEMBERED_TOKENS, Admitted
from services.api.agents.groups import WAITING as WAITING_CALLS
from services.api.agents.groups import AgentCall
from services.api.changes.followers import Followers
from services.api.group_commit import Groups, Overloaded
from services.api.http.application import Application, Endpoint
from services.api.http.responses import ERROR_HANDLERS
from services.api.http.routes.jobs import MAX_JOBS
from services.api.http.routes.logs import LogRoutes
from services.api.submission.intake import WAITING as WAITING_JOBS
from shared import tokens
from shared.clock import VirtualClock
from shared.compute.ec2.cache import MOST_VALUES, Cache
from tests.support.api.api_world import World, message_of

TOO_MANY = "too many requests wait for the database: try again"


@pytest.fixture
async def idle(world: World) -> AsyncIterator[World]:
    """Make a process of the API whose groups are not written: all calls wait."""
    idle = World(world.ports, world.clock, groups=False)
    yield idle
    await idle.close()


async def settled(turns: int = 50) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def refused(answer: httpx.Response) -> None:
    assert (answer.status_code, message_of(answer)) == (503, TOO_MANY)


@contextlib.asynccontextmanager
async def written(world: World) -> AsyncIterator[None]:
    """Write the agents' groups during the block."""
    running = asyncio.create_task(world.api.agents.run())
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_beyond_ten_thousand_waiting_jobs_a_request_is_refused_and_nothing_is_half_done(
    world: World, idle: World
) -> None:
    job = {"docker_image": "alpine", "scheduled_for": "now"}
    many = [job] * MAX_JOBS
    waiting = [
        asyncio.create_task(idle.http.post("/schedule", json=many))
        for _ in range(WAITING_JOBS // MAX_JOBS)
    ]
    while idle.api.intake._groups._waiting_size < WAITING_JOBS:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0)
    refused(await idle.http.post("/schedule", json=job))
    assert not any(each.done() for each in waiting)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (await world.rows())["jobs"] == []


async def test_beyond_four_thousand_waiting_calls_an_agent_is_refused_and_may_call_again(
    world: World, idle: World
) -> None:
    agent = await world.running()
    # One call that counts as much as all of them.
    call: AgentCall[int] = AgentCall(decide=lambda _: 1, token_hash=b"", size=WAITING_CALLS)
    waiting = asyncio.create_task(idle.api.agents.serve(call))
    await settled()
    refused(await idle.report(agent, lines=["a line"]))
    assert not waiting.done()
    async with written(idle):
        assert await waiting == 1
        assert (await idle.report(agent, lines=["a line"])).status_code == 200
    assert await world.logs(agent.job_id) == "a line\n"


async def test_beyond_four_thousand_waiting_heartbeats_one_is_refused(
    world: World, idle: World
) -> None:
    agent = await world.running()
    token = tokens.token_hash(agent.token)
    waiting = [
        asyncio.create_task(idle.api.agents.beat(token, agent.job_id)) for _ in range(WAITING_CALLS)
    ]
    await settled()
    refused(await idle.report(agent))
    async with written(idle):
        assert all([await each for each in waiting])
        assert (await idle.report(agent)).status_code == 200


async def test_what_waits_for_too_long_is_refused_and_is_never_written() -> None:
    written: list[int] = []
    free = asyncio.Event()

    async def write(group: Sequence[int]) -> list[int]:
        await free.wait()
        written.extend(group)
        return list(group)

    groups = Groups(write, limit=1, stopping="bye", longest=0.05)
    running = asyncio.create_task(groups.run())
    first = asyncio.create_task(groups.join(1))
    await settled()
    for number in (2, 3):
        with pytest.raises(Overloaded, match=TOO_MANY):
            await groups.join(number)
    free.set()
    assert await first == 1
    assert await groups.join(4) == 4
    assert written == [1, 4]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_more_followers_than_allowed_are_refused_until_one_leaves(world: World) -> None:
    job_id = (await world.post())["id"]
    followers = Followers(world.ports.wakeups, most=2)
    app = Application(
        routes=[Route("/jobs/{id}/logs", Endpoint(LogRoutes(world.ports.db, followers).logs))],
        exception_handlers=ERROR_HANDLERS,
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(followers.follow(job_id))
            answer = await http.get(f"/jobs/{job_id}/logs?follow=1")
            assert answer.status_code == 503
            assert message_of(answer) == "too many clients follow logs or events: try again"
            assert (await http.get(f"/jobs/{job_id}/logs")).status_code == 200
        await world.cancel(job_id)
        assert (await http.get(f"/jobs/{job_id}/logs?follow=1")).status_code == 200


def test_a_cache_of_tokens_is_emptied_when_it_is_full(clock: VirtualClock) -> None:
    admitted = Admitted(clock)
    for number in range(REMEMBERED_TOKENS + 1):
        admitted.add(number.to_bytes(8, "big"), 1)
    assert len(admitted._since) == 1


async def test_a_cache_of_the_clouds_answers_drops_the_oldest(clock: VirtualClock) -> None:
    cache, asked = Cache(clock), []

    async def value_of(number: int) -> int:
        async def ask() -> int:
            asked.append(number)
            return number

        return await cache.get(f"types {number}", 3600, ask)

    for number in range(MOST_VALUES + 1):
        assert await value_of(number) == number
        clock.advance(timedelta(milliseconds=1).total_seconds())
    asked.clear()
    assert [await value_of(number) for number in (MOST_VALUES, 1, 0)] == [MOST_VALUES, 1, 0]
    assert asked == [0]
