"""Every queue of the API in memory has a bound, and an answer beyond it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import httpx
import pytest

from services.api.agents.calls import REMEMBERED_TOKENS, Admitted
from services.api.agents.groups import WAITING as WAITING_CALLS
from services.api.agents.groups import AgentCall
from services.api.group_commit import Groups, Overloaded
from services.api.http.routes.jobs import MAX_JOBS
from services.api.keys import store as key_store
from services.api.keys.access import (
    REMEMBER_SECONDS,
    make_key,
)
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
    answer = await idle.http.post("/schedule", json=job)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert message_of(answer) == "too many jobs wait for the database: try again"
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


async def two_keys(world: World, clock: VirtualClock) -> list[dict[str, str]]:
    """Make two keys; return a header of each."""
    keys = [make_key(), make_key()]
    async with world.ports.db.transaction() as tx:
        for key in keys:
            await key_store.insert_key(tx, key.prefix, key.prefix, "submit", key.hashed)
    clock.advance(REMEMBER_SECONDS)
    return [{"Authorization": f"Bearer {key.text}"} for key in keys]


async def test_a_keys_flood_of_jobs_leaves_room_for_another_key(
    world: World, clock: VirtualClock, idle: World
) -> None:
    flooder, other = await two_keys(world, clock)
    job = {"docker_image": "alpine", "scheduled_for": "now"}
    flood = [
        asyncio.create_task(idle.http.post("/schedule", json=[job] * MAX_JOBS, headers=flooder))
        for _ in range(12)
    ]
    while sum(each.done() for each in flood) < 7:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0)
    statuses = [each.result().status_code for each in flood if each.done()]
    assert statuses == [429] * 7
    print(f"{len(statuses)} of {len(flood)} requests of the flood refused")
    genuine = [
        asyncio.create_task(idle.http.post("/schedule", json=job, headers=other)) for _ in range(20)
    ]
    while idle.api.intake._groups._waiting_size < 5 * MAX_JOBS + 20:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not any(each.done() for each in genuine), "they wait, and are not refused"
    for each in (*flood, *genuine):
        each.cancel()
    await asyncio.gather(*flood, *genuine, return_exceptions=True)
    assert idle.api.intake._shares.held == 0


async def test_more_followers_than_allowed_are_refused_until_one_leaves(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    flooder, other = await two_keys(world, clock)
    shares = world.api.followers.shares
    paths = ("/events", f"/jobs/{job_id}/logs?follow=1")
    key = flooder["Authorization"].split("_")[1]
    shares.take(key, shares.size // 2)  # each follower takes a connection and a task
    for path in paths:
        answer = await world.http.get(path, headers=flooder)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert message_of(answer) == "too many clients follow logs or events: try again"
    assert (await world.http.get(f"/jobs/{job_id}/logs", headers=flooder)).status_code == 200
    await world.http.delete(f"/jobs/{job_id}", headers=other)
    assert (await world.http.get(paths[1], headers=other)).status_code == 200
    assert shares.held == shares.size // 2, "its place is free again"
    shares.give_back(key)
    assert (await world.http.get(paths[1], headers=flooder)).status_code == 200


async def test_a_hundred_followers_at_the_same_time_pass_no_bound(
    world: World, clock: VirtualClock
) -> None:
    """The place is taken before the answer begins, not with its first event."""
    job_id = (await world.post())["id"]
    shares = world.api.followers.shares
    shares.take(None, shares.size - 10)
    following = [
        asyncio.create_task(world.http.get(f"/jobs/{job_id}/logs?follow=1")) for _ in range(100)
    ]
    while sum(each.done() for each in following) < 90:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0)
    refused = [each.result().status_code for each in following if each.done()]
    print(f"{len(refused)} of {len(following)} followers refused")
    assert refused == [429] * 90
    for each in following:
        each.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    assert shares.held == shares.size - 10


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
