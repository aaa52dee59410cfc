"""The lines of a cost: instance, public IPv4 address and volume, wherever costs are shown."""

from typing import Any

import pytest
from msgspec.structs import replace

from shared.clock import VirtualClock
from shared.events.costs import CostLines, OtherPrices
from tests.support.api.api_world import World

LINES = CostLines(instance_usd=0.25, public_ipv4_usd=0.02, volume_usd=0.01)
WHOLE = 0.28
ON_DEMAND = 61 * 0.05 / 3600
OTHERS = OtherPrices(public_ipv4_hourly_usd=0.005, volume_hourly_usd=0.0025)
UNKNOWN = {"instance_usd": None, "public_ipv4_usd": None, "volume_usd": None}


async def done(
    world: World, cost_usd: float | None = WHOLE, lines: CostLines | None = LINES
) -> int:
    agent = await world.running()
    await world.call_back(agent, {})
    over = world.terminated(agent.job_id)
    await world.deliver(replace(over, cost_usd=cost_usd, cost_lines=lines))
    return agent.job_id


async def total_of(world: World, **query: str) -> dict[str, Any]:
    answer = await world.http.get("/stats", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["total"]
    return found


async def test_an_attempt_shows_the_lines_that_add_up_to_its_cost(world: World) -> None:
    job = await world.status(await done(world))
    [attempt] = job["attempts"]
    assert attempt["cost_lines"] == {
        "instance_usd": 0.25,
        "public_ipv4_usd": 0.02,
        "volume_usd": 0.01,
    }
    assert attempt["cost_usd"] == job["cost_usd"] == WHOLE
    assert sum(attempt["cost_lines"].values()) == pytest.approx(WHOLE, abs=1e-12)
    # Address and volume cost the same on demand.
    assert attempt["on_demand_usd"] == job["on_demand_usd"] == round(ON_DEMAND, 6) + 0.03


async def test_an_unknown_line_makes_the_cost_null_and_not_less(world: World) -> None:
    job = await world.status(await done(world, None, replace(LINES, volume_usd=None)))
    [attempt] = job["attempts"]
    assert attempt["cost_lines"]["volume_usd"] is None
    assert (attempt["cost_usd"], job["cost_usd"], attempt["on_demand_usd"]) == (None, None, None)


async def test_a_cost_of_an_earlier_reaper_has_no_lines(world: World) -> None:
    job = await world.status(await done(world, 0.25, None))
    [attempt] = job["attempts"]
    assert (attempt["cost_usd"], attempt["cost_lines"]) == (0.25, UNKNOWN)
    assert attempt["on_demand_usd"] == round(ON_DEMAND, 6)


async def test_the_statistics_compare_the_same_lines(world: World, clock: VirtualClock) -> None:
    """Of an instance without lines, and one with; before and after the records are removed."""
    jobs = [await done(world), await done(world, 0.25, None)]
    clock.advance(1)
    before = await total_of(world, by="day")
    assert before["cost_usd"] == pytest.approx(WHOLE + 0.25)
    assert before["saved_usd"] == pytest.approx(2 * (ON_DEMAND - 0.25), abs=2e-6)
    for job_id in jobs:
        answer = await world.http.delete(f"/jobs/{job_id}/record")
        assert answer.status_code == 204, answer.text
    after = await total_of(world, by="day")
    for field in ("cost_usd", "saved_usd", "lost_usd"):
        assert after[field] == pytest.approx(before[field], abs=2e-6), field


@pytest.mark.parametrize(
    ("others", "so_far"),
    [
        (OTHERS, 0.01),
        (None, 0.00625),
        (replace(OTHERS, volume_hourly_usd=None), None),
    ],
)
async def test_a_running_instance_has_cost_its_address_and_its_volume_too(
    world: World, clock: VirtualClock, others: OtherPrices | None, so_far: float | None
) -> None:
    job_id = (await world.post())["id"]
    await world.deliver(replace(world.launched(job_id), other_prices=others))
    clock.advance(1800)
    [instance] = (await world.http.get("/instances")).json()
    assert instance["cost_so_far_usd"] == so_far
    [attempt] = (await world.status(job_id))["attempts"]
    shown = others or OtherPrices()
    assert attempt["other_prices"] == {
        "public_ipv4_hourly_usd": shown.public_ipv4_hourly_usd,
        "volume_hourly_usd": shown.volume_hourly_usd,
    }


async def test_the_totals_of_a_day_of_which_no_cost_is_known_are_null(world: World) -> None:
    await done(world, None, replace(LINES, volume_usd=None))
    [day] = (await world.http.get("/totals")).json()
    assert (day["cost_usd"], day["unknown_costs"]) == (None, 1)
    await done(world)
    [day] = (await world.http.get("/totals")).json()
    assert (day["cost_usd"], day["unknown_costs"]) == (pytest.approx(WHOLE), 1)
