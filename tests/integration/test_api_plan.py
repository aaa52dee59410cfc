"""POST /plan: prices as the launcher has published them, and nothing is written."""

import random
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.offers.store import LOAD_STARTS
from services.launcher.pricing import decide_events
from shared.clock import VirtualClock
from shared.compute.port import PricedOffers
from shared.events.events import OffersPriced
from shared.events.offers import OfferTerms
from tests.integration.test_launcher_offers import a_type
from tests.support.api.api_world import World, a_config, message_of

TERMS = OfferTerms(
    chooses=True,
    zones=("a",),
    most_types=20,
    vcpus=2,
    memory_mib=4096,
    minimum_billed_seconds=60,
    start_seconds=60,
)


def version(world: World, name: str, *prices: float, age: float = 0) -> list[OffersPriced]:
    """Make the events of a version with these prices, one type a part."""
    types = tuple(a_type(f"m{n}.large", usd) for n, usd in enumerate(prices, start=5))
    at = world.clock.now() - timedelta(seconds=age)
    return list(decide_events(PricedOffers(terms=TERMS, types=types), name, at, most=1))


async def plan(world: World, **fields: Any) -> dict[str, Any]:
    body = {"docker_image": "alpine", "scheduled_for": "now", **fields}
    answer = await world.http.post("/plan", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_plan_has_the_published_prices_and_nothing_is_written(world: World) -> None:
    await world.deliver(*version(world, "v1", 0.05, 0.03))
    before = await world.rows()
    found = await plan(world, expected_seconds=300, capacity="spot_then_on_demand")
    assert await world.rows() == before
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    assert found == {
        "scheduled_for": now,
        "capacity": "spot_then_on_demand",
        "likely_start_at": (world.clock.now() + timedelta(seconds=60))
        .isoformat()
        .replace("+00:00", "Z"),
        "likely_start_seconds": 60.0,
        "likely_start_from": "default",
        "expected_seconds": 300,
        "expected_from": "expected_seconds",
        "prices_as_of": now,
        "cost_usd": 0.003,
        "on_demand_cost_usd": None,
        "message": None,
        "list_prices_as_of": None,
        "choices": [
            {
                "place": place,
                "instance_type": name,
                "zone": "a",
                "market": market,
                "hourly_price_usd": usd,
                "on_demand_hourly_price_usd": None,
                "cost_usd": cost,
                "vcpus": 2,
                "memory_mib": 8192,
                "gpus": 0,
                "architecture": "x86_64",
            }
            for place, name, market, usd, cost in (
                (1, "m6.large", "spot", 0.03, 0.003),
                (2, "m5.large", "spot", 0.05, 0.005),
                (3, "m5.large", "on-demand", None, None),
                (4, "m6.large", "on-demand", None, None),
            )
        ],
    }


async def test_before_the_launcher_has_published_there_are_no_choices(world: World) -> None:
    found = await plan(world)
    assert found["message"] == "the launcher has published no prices yet"
    assert (found["choices"], found["prices_as_of"], found["cost_usd"]) == ([], None, None)
    assert (found["likely_start_at"], found["expected_seconds"]) == (None, 86_400)


async def test_a_version_counts_when_all_of_its_parts_have_come_in_any_order(world: World) -> None:
    parts = version(world, "v1", 0.05, 0.04, 0.03)
    await world.deliver(*version(world, "v0", 0.09, age=60))
    random.Random(7).shuffle(parts)
    for part in parts:
        assert [each["hourly_price_usd"] for each in (await plan(world))["choices"]] == [0.09]
        await world.deliver(part)
    found = await plan(world)
    assert [each["hourly_price_usd"] for each in found["choices"]] == [0.03, 0.04, 0.05]
    rows = await world.stage.rows("SELECT DISTINCT version FROM offers")
    assert [row["version"] for row in rows] == ["v1"]


async def test_late_and_repeated_parts_of_an_older_version_change_nothing(world: World) -> None:
    late = version(world, "v1", 0.09, 0.08, age=1800)
    await world.deliver(late[0], *version(world, "v2", 0.03))
    before = await world.rows()
    await world.deliver(*late, *version(world, "v2", 0.03))
    assert await world.rows() == before
    assert [each["hourly_price_usd"] for each in (await plan(world))["choices"]] == [0.03]


async def test_a_part_that_never_comes_leaves_the_version_before_until_the_next(
    world: World, clock: VirtualClock
) -> None:
    await world.deliver(*version(world, "v1", 0.04))
    clock.advance(1800)
    await world.deliver(version(world, "v2", 0.03, 0.02)[0])
    assert (await plan(world))["cost_usd"] == round(0.04 * 86_460 / 3600, 6)
    clock.advance(1800)
    await world.deliver(*version(world, "v3", 0.01))
    assert (await plan(world))["cost_usd"] == round(0.01 * 86_460 / 3600, 6)
    rows = await world.stage.rows("SELECT version FROM offers")
    assert [row["version"] for row in rows] == ["v3"]


async def test_the_likely_start_is_that_of_the_jobs_that_were_done_last(
    world: World, clock: VirtualClock
) -> None:
    await world.deliver(*version(world, "v1", 0.03))
    for wait, boot in ((10, 30), (20, 20), (500, 40)):
        job = await world.post()
        clock.advance(wait)
        agent = await world.claimed(job["id"])
        clock.advance(boot)
        await world.report(agent, phase="running")
        await world.call_back(agent, {"exit_code": 0})
    await world.post(scheduled_for="+2d")  # it has not started
    found = await plan(world, expected_seconds=570)
    assert (found["likely_start_seconds"], found["likely_start_from"]) == (40, "recent_jobs")
    assert found["cost_usd"] == round(0.03 * 600 / 3600, 6)


async def test_the_search_for_recent_jobs_reads_its_index_and_one_attempt_each(
    world: World,
) -> None:
    async with world.ports.db.connection() as conn:
        await conn.execute("SET enable_seqscan = off")
        rows = await conn.fetch("EXPLAIN " + LOAD_STARTS.replace("$1", "100"))
        await conn.execute("RESET enable_seqscan")
    shown = "\n".join(row[0] for row in rows)
    assert "jobs_by_status" in shown
    assert "attempts_pkey" in shown
    assert "Sort" not in shown


async def test_no_secret_of_the_request_is_in_the_plan(world: World) -> None:
    keeping = world.again(SECRETS_KEY="ab" * 32)
    await keeping.deliver(*version(world, "v1", 0.03))
    answer = await keeping.http.post(
        "/plan",
        json={
            "docker_image": "alpine",
            "scheduled_for": "now",
            "secret_env": {"TOKEN": "hunter2"},
            "env_vars": {"A": "not-shown"},
        },
    )
    assert answer.status_code == 200, answer.text
    assert "hunter2" not in answer.text
    assert "not-shown" not in answer.text
    await keeping.close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], 'the body must be a JSON object, like {"docker_image": "alpine", …}'),
        ({"docker_image": "alpine"}, "scheduled_for field cannot be empty"),
        (
            {"docker_image": "alpine", "scheduled_for": "now", "expected_seconds": 1.5},
            "expected_seconds must be a whole number from 1 to 86400",
        ),
    ],
)
async def test_a_body_that_is_wrong_is_refused_as_by_schedule(
    world: World, body: Any, message: str
) -> None:
    answer = await world.http.post("/plan", json=body)
    assert answer.status_code == 400
    assert message_of(answer) == message


async def test_the_deployment_s_longest_life_bounds_what_may_be_expected(world: World) -> None:
    short = world.again(MAX_LIFETIME_SECONDS="600")
    assert a_config(MAX_LIFETIME_SECONDS="600").bounds.max_lifetime_seconds == 600
    body = {"docker_image": "alpine", "scheduled_for": "now", "expected_seconds": 601}
    answer = await short.http.post("/plan", json=body)
    assert message_of(answer) == "expected_seconds must be a whole number from 1 to 600"
    assert (await plan(short))["expected_seconds"] == 600
    await short.close()


async def test_a_resource_that_nothing_has_is_no_error_of_the_request(world: World) -> None:
    events = version(world, "v1", 0.03)
    await world.deliver(*(replace(each, terms=TERMS) for each in events))
    found = await plan(world, resources={"gpus": 1})
    assert found["message"].startswith("no instance type fits: no instance type has")
