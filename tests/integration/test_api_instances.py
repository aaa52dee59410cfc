"""`GET /instances`: what exists now, for which job, since when and at which price."""

import asyncio
from typing import Any

import pytest

from shared.clock import VirtualClock
from tests.support.api.api_world import World, instance_of, message_of


async def shown(world: World, **parameters: Any) -> list[dict[str, Any]]:
    answer = await world.http.get("/instances", params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def ids(world: World) -> list[int]:
    return [each["job_id"] for each in await shown(world)]


async def test_an_instance_is_shown_with_its_job_and_what_it_cost_so_far(
    world: World, clock: VirtualClock
) -> None:
    assert await shown(world) == []
    agent = await world.running(name="nightly")
    clock.advance(1800)
    assert await shown(world) == [
        {
            "instance_id": instance_of(agent.job_id, 1),
            "instance_type": "m7g.medium",
            "zone": "us-east-1a",
            "market": "spot",
            "hourly_price_usd": 0.0125,
            "on_demand_hourly_price_usd": 0.05,
            "since": "2026-01-01T00:00:00Z",
            "job_id": agent.job_id,
            "job_name": "nightly",
            "attempt": 1,
            "phase": "running",
            "cost_so_far_usd": 0.00625,
        }
    ]


async def test_it_is_shown_from_the_launch_until_it_is_known_to_be_terminated(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await world.post(scheduled_for="+1h")
    assert await shown(world) == []
    agent = await world.claimed(job_id)
    phases = [(await shown(world))[0]["phase"]]
    for phase in ("pulling", "running"):
        await world.report(agent, phase=phase)
        phases.append((await shown(world))[0]["phase"])
    await world.call_back(agent, {})
    clock.advance(60)
    phases.append((await shown(world))[0]["phase"])
    assert phases == ["booting", "pulling", "running", "ended"]
    await world.deliver(world.terminated(job_id))
    assert await shown(world) == []


async def test_a_replacement_is_shown_beside_the_attempt_that_is_interrupted(world: World) -> None:
    agent = await world.running()
    await world.deliver(world.warned(agent.job_id))
    await world.deliver(world.launched(agent.job_id, 2))
    found = await shown(world)
    assert [(each["job_id"], each["attempt"]) for each in found] == [
        (agent.job_id, 1),
        (agent.job_id, 2),
    ]


async def test_an_instance_without_a_report_of_its_launch_has_no_price_yet(world: World) -> None:
    job_id = (await world.post())["id"]
    await world.claim(job_id)
    [found] = await shown(world)
    assert found["instance_id"] == instance_of(job_id, 1)
    assert (found["instance_type"], found["hourly_price_usd"]) == (None, None)
    assert found["cost_so_far_usd"] is None


async def test_an_instance_that_must_have_ended_long_ago_is_not_shown(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.call_back(agent, {})
    clock.advance(366 * 86_400 - 1)  # a day after its `dies_by`, which is in a year
    assert await ids(world) == [agent.job_id]
    clock.advance(1)
    assert await ids(world) == []


async def test_pages_are_in_the_order_of_the_launches_and_complete(
    world: World, clock: VirtualClock
) -> None:
    jobs = [(await world.post())["id"] for _ in range(5)]
    for job_id in reversed(jobs):
        await world.deliver(world.launched(job_id))
        clock.advance(1.5 if job_id % 2 else 0)
    assert await ids(world) == [5, 3, 4, 1, 2]
    found, pages, following = [], 0, "/instances?limit=2"
    while following:
        answer = await world.http.get(following)
        found += [each["job_id"] for each in answer.json()]
        following = answer.links.get("next", {}).get("url", "")
        pages += 1
    assert (found, pages) == ([5, 3, 4, 1, 2], 3)


WRONG = [
    ("limit=0", "limit must be a whole number from 1 to 1000"),
    ("limit=all", "limit must be a whole number from 1 to 1000"),
    ("limit=1001", "limit must be a whole number from 1 to 1000"),
    ("cursor=7", "cursor must be that of a Link header of this route"),
    ("cursor=", "cursor must be that of a Link header of this route"),
    ("status=RUNNING", "unknown parameter 'status': use limit, cursor or project"),
]


@pytest.mark.parametrize(("query", "message"), WRONG)
async def test_a_wrong_parameter_is_named(world: World, query: str, message: str) -> None:
    answer = await world.http.get(f"/instances?{query}")
    assert (answer.status_code, message_of(answer)) == (400, message)


@pytest.mark.parametrize("cursor", ["0-0-0", "99999999999999999-999999999999999999-999999999"])
async def test_any_cursor_of_the_form_is_taken(world: World, cursor: str) -> None:
    agent = await world.running()
    expected = [agent.job_id] if cursor == "0-0-0" else []
    found = await shown(world, cursor=cursor)
    assert [each["job_id"] for each in found] == expected


async def test_many_may_ask_at_once(world: World) -> None:
    agent = await world.running()
    answers = await asyncio.gather(*(ids(world) for _ in range(20)))
    assert answers == [[agent.job_id]] * 20
