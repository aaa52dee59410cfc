"""A price that is not known is null everywhere, never 0; a sum with it does not look complete.

The whole system on the fake AWS: `/plan`, `/status`, `/list`, `/instances`, `/totals`, `/stats`,
and the events. Once no list price is known (`EC2_PRICES=none`), once the Price List API has a type
not, and the table neither.
"""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from fake_aws import CloudSettings
from rehearsal.outboxes import read_outboxes
from rehearsal.stage import Stage, open_stage
from shared.compute.ec2.price_table import table_price
from shared.events.events import (
    Event,
    InstanceLaunched,
    InstanceTerminated,
    JobFinished,
)
from tests.support.systems.api_client import ApiClient
from tests.support.waiting import until

UNLISTED = "m5zn.large"
CLOUD = CloudSettings(
    speed=50.0, boot="process", price_step_seconds=86_400.0, unlisted_types=(UNLISTED,)
)
STORY_SECONDS = 120


@pytest.fixture(params=["none", "auto"])
def prices(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(prices: str) -> Iterator[Stage]:
    with open_stage(
        CLOUD, EC2_INSTANCE_TYPES=UNLISTED, EC2_PRICES=prices, LOG_LEVEL="warning"
    ) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[ApiClient]:
    client = ApiClient(stage.system.url)
    with closing(client.http):
        yield client


def plan(client: ApiClient, **wants: Any) -> dict[str, Any]:
    """Return a plan, once the launcher has published its offers."""
    body = {"docker_image": "alpine", "scheduled_for": "now", "expected_seconds": 60, **wants}

    def answer() -> dict[str, Any]:
        found: dict[str, Any] = client.http.post("/plan", json=body).raise_for_status().json()
        return found

    until(lambda: answer()["choices"], STORY_SECONDS, "there are offers")
    return answer()


def run_one(client: ApiClient, so_far: set[float | None], **wants: Any) -> dict[str, Any]:
    """Run a job until the end of its instance is known; return it.

    *so_far*: gets what its instance has cost at each look, while it exists.
    """
    job_id = client.schedule(env_vars={"SIMULATE_SECONDS": "1"}, **wants)

    def over() -> bool:
        shown = client.http.get("/instances").raise_for_status().json()
        so_far.update(each["cost_so_far_usd"] for each in shown if each["job_id"] == job_id)
        job = client.job(job_id)
        return job["status"] == "DONE" and job["attempts"][-1]["billed_seconds"] is not None

    until(over, STORY_SECONDS, "the job is done and its instance terminated")
    return client.job(job_id)


def total(client: ApiClient) -> tuple[float | None, int]:
    """Return the cost of all jobs, and of how many attempts it is not known."""
    [day] = client.http.get("/totals").raise_for_status().json()
    stats = client.http.get("/stats").raise_for_status().json()["total"]
    assert (stats["cost_usd"], stats["unknown_costs"]) == (day["cost_usd"], day["unknown_costs"])
    return day["cost_usd"], day["unknown_costs"]


def events(stage: Stage, kind: type[Event]) -> list[Any]:
    published = asyncio.run(read_outboxes(stage.system.admin_dsn()))
    return [each.event for each in published if isinstance(each.event, kind)]


@pytest.mark.timeout(300)
def test_an_unknown_price_is_null_from_the_plan_to_the_totals(
    stage: Stage, client: ApiClient, prices: str
) -> None:
    assert table_price(UNLISTED, "us-east-1") is None
    planned = plan(client, capacity="on_demand")
    assert (planned["cost_usd"], planned["on_demand_cost_usd"]) == (None, None)
    assert {each["hourly_price_usd"] for each in planned["choices"]} == {None}
    assert {each["cost_usd"] for each in planned["choices"]} == {None}

    so_far: set[float | None] = set()
    job = run_one(client, so_far, capacity="on_demand")
    assert so_far == {None}
    [attempt] = job["attempts"]
    assert attempt["instance_type"] == UNLISTED
    assert (attempt["hourly_price_usd"], attempt["on_demand_hourly_price_usd"]) == (None, None)
    assert (attempt["cost_usd"], attempt["cost_lines"]["instance_usd"]) == (None, None)
    others = {attempt["cost_lines"][name] for name in ("public_ipv4_usd", "volume_usd")}
    assert (None in others) == (prices == "none")
    assert 0 not in others
    assert (job["cost_usd"], job["wasted_usd"], job["on_demand_usd"]) == (None, None, None)
    [listed] = client.jobs()
    assert listed["cost_usd"] is None
    assert total(client) == (None, 1)

    assert [each.hourly_price_usd for each in events(stage, InstanceLaunched)] == [None]
    assert [each.cost_usd for each in events(stage, InstanceTerminated)] == [None]
    assert [each.cost_usd for each in events(stage, JobFinished)] == [None]
    if prices == "none":
        return

    so_far.clear()
    listed_type = {"instance_types": ["m5.large"]}
    known = run_one(client, so_far, capacity="on_demand", resources=listed_type)
    assert None not in so_far
    assert known["cost_usd"] > 0
    cost, unknown = total(client)
    assert cost == pytest.approx(known["cost_usd"])
    assert unknown == 1  # what is missing in the sum is counted
