"""`GET /stats`: counts, cost, loss, savings and lateness of finished jobs, in groups."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.http.routes import stats as route
from services.api.jobs import stats
from shared.clock import VirtualClock
from tests.support.api.api_world import World, message_of

DAY = 86_400
COUNTS = ("jobs", "done", "failed", "cancelled", "attempts", "interruptions", "unknown_costs")
NOTHING = dict.fromkeys((*COUNTS, "billed_seconds"), 0) | {
    "cost_usd": 0.0,
    "lost_usd": 0.0,
    "saved_usd": 0.0,
    "lateness_median_seconds": None,
    "lateness_p95_seconds": None,
}
PAID = 0.25
ON_DEMAND = 61 * 0.05 / 3600
"""The cost of an attempt in these tests, and what its 61 s would cost on demand."""


def about(amount: float) -> Any:
    """Compare with *amount*: each sum is rounded."""
    return pytest.approx(amount, abs=1e-5)


async def asked(world: World, **parameters: str) -> dict[str, Any]:
    answer = await world.http.get("/stats", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def by(world: World, name: str, **parameters: str) -> dict[str | None, dict[str, Any]]:
    """Ask for groups; return each by its key, and check that they add up to the total."""
    found = await asked(world, by=name, **parameters)
    groups = found["groups"]
    for count in (*COUNTS, "billed_seconds"):
        assert sum(each[count] for each in groups) == found["total"][count], count
    for amount in ("cost_usd", "lost_usd", "saved_usd"):
        known = [each[amount] for each in groups if each[amount] is not None]
        assert (found["total"][amount] or 0) == about(sum(known)), amount
    return {each["key"]: each for each in groups}


async def done(
    world: World,
    *,
    late: float = 0,
    terminated: bool = True,
    cost: float | None = PAID,
    **fields: Any,
) -> int:
    """Run a job whose container starts *late* seconds after its time, to its end."""
    job_id = int((await world.post(**fields))["id"])
    world.clock.advance(late)
    agent = await world.claimed(job_id)
    await world.report(agent, phase="running")
    await world.call_back(agent, {})
    if terminated:
        await world.deliver(replace(world.terminated(job_id), cost_usd=cost))
    return job_id


async def interrupted_once(world: World, **fields: Any) -> int:
    """Run a job that is interrupted in its first attempt."""
    agent = await world.running(**fields)
    await world.call_back(agent, {"schedule": "", "stopped": True})
    await world.deliver(world.terminated(agent.job_id, spot=True))
    world.clock.advance(60)
    second = await world.claimed(agent.job_id, 2)
    await world.report(second, phase="running")
    await world.call_back(second, {})
    await world.deliver(world.terminated(agent.job_id, 2))
    return agent.job_id


async def test_without_jobs_all_is_zero_and_nothing_is_late(world: World) -> None:
    found = await asked(world)
    assert found == {
        "since": "2025-12-03T00:00:00Z",
        "until": "2026-01-01T00:00:00Z",
        "by": "day",
        "total": NOTHING,
        "groups": [],
        "removed_jobs": 0,
        "groups_left_out": 0,
    }


async def test_jobs_are_counted_on_the_day_on_which_they_finished(
    world: World, clock: VirtualClock
) -> None:
    await done(world)
    clock.advance(DAY)
    await done(world)
    cancelled = await world.post()
    await world.cancel(cancelled["id"])
    await world.post(scheduled_for="+1h")  # it has not finished
    clock.advance(1)
    found = await asked(world)
    assert [each["key"] for each in found["groups"]] == ["2026-01-01", "2026-01-02"]
    first, second = found["groups"]
    assert (first["jobs"], first["done"], first["cancelled"]) == (1, 1, 0)
    assert (second["jobs"], second["done"], second["cancelled"]) == (2, 1, 1)
    total = found["total"]
    assert (total["jobs"], total["attempts"], total["billed_seconds"]) == (3, 3, 122)
    assert total["cost_usd"] == 2 * PAID


async def test_only_jobs_that_finished_within_the_time_are_counted(
    world: World, clock: VirtualClock
) -> None:
    await done(world)
    clock.advance(3600)
    assert (await asked(world, since="1h"))["total"]["jobs"] == 1, "from then on"
    assert (await asked(world, since="3599s"))["total"]["jobs"] == 0
    assert (await asked(world, since="2h", until="1h"))["total"]["jobs"] == 0, "before then"
    assert (await asked(world, since="2h", until="2026-01-01T00:00:01Z"))["total"]["jobs"] == 1


async def test_what_is_paid_without_a_result_is_lost_and_counts_against_the_savings(
    world: World, clock: VirtualClock
) -> None:
    await interrupted_once(world)
    clock.advance(1)
    total = (await asked(world))["total"]
    assert (total["jobs"], total["attempts"], total["interruptions"]) == (1, 2, 1)
    assert (total["cost_usd"], total["lost_usd"]) == (2 * PAID, PAID)
    assert total["saved_usd"] == about(ON_DEMAND - 2 * PAID)


async def test_an_unknown_cost_is_null_and_not_zero(world: World, clock: VirtualClock) -> None:
    await done(world, terminated=False, labels={"team": "a"})
    await done(world, labels={"team": "b"})
    clock.advance(1)
    groups = await by(world, "label:team")
    assert (groups["a"]["cost_usd"], groups["a"]["unknown_costs"]) == (None, 1)
    assert (groups["a"]["lost_usd"], groups["a"]["saved_usd"]) == (None, None)
    assert (groups["b"]["cost_usd"], groups["b"]["unknown_costs"]) == (PAID, 0)
    total = (await asked(world))["total"]
    assert (total["cost_usd"], total["unknown_costs"]) == (PAID, 1)


async def test_groups_by_status(world: World, clock: VirtualClock) -> None:
    await done(world)
    agent = await world.running()
    await world.call_back(agent, {"failed": "", "error_message": "boom", "exit_code": 3})
    clock.advance(1)
    groups = await by(world, "status")
    assert list(groups) == ["DONE", "FAILED"]
    assert (groups["DONE"]["done"], groups["FAILED"]["failed"]) == (1, 1)


async def test_groups_by_a_label_have_the_jobs_without_it_under_null(
    world: World, clock: VirtualClock
) -> None:
    await done(world, labels={"team": "data"})
    await done(world, labels={"team": "data", "env": "x"})
    await done(world, labels={"env": "x"})
    clock.advance(1)
    groups = await by(world, "label:team")
    assert {key: each["jobs"] for key, each in groups.items()} == {"data": 2, None: 1}
    assert (await asked(world, by="label:team"))["by"] == "label:team"


async def test_groups_by_image(world: World, clock: VirtualClock) -> None:
    await done(world, docker_image="alpine:3")
    await done(world, docker_image="busybox")
    clock.advance(1)
    groups = await by(world, "image")
    assert {key: each["jobs"] for key, each in groups.items()} == {"alpine:3": 1, "busybox": 1}


async def test_by_instance_type_each_attempt_counts_where_it_ran(
    world: World, clock: VirtualClock
) -> None:
    await interrupted_once(world)
    await world.stage.rows(
        "UPDATE attempts SET instance_type = 'c7i.large' WHERE number = 1 RETURNING 1"
    )
    cancelled = await world.post()
    await world.cancel(cancelled["id"])
    clock.advance(1)
    groups = await by(world, "instance_type")
    assert {key: (each["jobs"], each["attempts"]) for key, each in groups.items()} == {
        "c7i.large": (0, 1),
        "m7g.medium": (1, 1),
        None: (1, 1),
    }
    assert groups["c7i.large"]["lost_usd"] == PAID


async def test_lateness_is_from_the_scheduled_time_to_the_first_start_of_a_container(
    world: World, clock: VirtualClock
) -> None:
    for seconds in (10, 20, 90):
        await done(world, late=seconds)
    await interrupted_once(world)  # its first attempt started at once
    clock.advance(1)
    total = (await asked(world))["total"]
    assert total["lateness_median_seconds"] == 15.0, "of 0, 10, 20 and 90"
    assert total["lateness_p95_seconds"] == pytest.approx(79.5)


# -- removed jobs ----------------------------------------------------------------------------------


async def removed(world: World, job_id: int) -> None:
    answer = await world.http.delete(f"/jobs/{job_id}/record")
    assert answer.status_code == 204, answer.text


async def test_removed_jobs_still_count_by_day_and_status_except_for_their_lateness(
    world: World, clock: VirtualClock
) -> None:
    gone = await interrupted_once(world)
    other = await done(world, late=5)
    kept = await done(world, late=7)
    clock.advance(1)
    before = await asked(world)
    await removed(world, gone)
    await removed(world, other)
    for name in ("day", "status"):
        after = await asked(world, by=name)
        assert after["removed_jobs"] == 0
        for found in (after["total"], after["groups"][0]):
            for field in (*COUNTS, "billed_seconds", "cost_usd", "lost_usd", "saved_usd"):
                assert found[field] == about(before["total"][field]), field
            assert found["lateness_median_seconds"] == 7.0
    await removed(world, kept)
    after = await asked(world)
    assert after["total"]["jobs"] == 3
    assert after["total"]["lateness_median_seconds"] is None
    assert after["total"]["cost_usd"] == before["total"]["cost_usd"]


async def test_where_removed_jobs_cannot_be_counted_the_answer_says_how_many(
    world: World, clock: VirtualClock
) -> None:
    clock.advance(3600)
    await removed(world, await done(world))
    clock.advance(1)
    for name in ("image", "instance_type", "label:team"):
        found = await asked(world, by=name)
        assert (found["groups"], found["total"]["jobs"], found["removed_jobs"]) == ([], 0, 1)
    part = await asked(world, since="2026-01-01T00:30:00Z")
    assert (part["total"]["jobs"], part["removed_jobs"]) == (0, 1), "only a part of the day"
    other = await asked(world, since="2d", until="2026-01-01T00:00:00Z")
    assert other["removed_jobs"] == 0


async def test_an_unknown_cost_is_still_null_once_its_job_is_removed(
    world: World, clock: VirtualClock
) -> None:
    unknown = [await done(world, cost=None) for _ in range(2)]
    clock.advance(1)
    for job_id in unknown:
        await removed(world, job_id)
        total = (await asked(world))["total"]
        assert (total["cost_usd"], total["lost_usd"], total["saved_usd"]) == (None, None, None)
    await removed(world, await done(world))
    clock.advance(1)
    total = (await asked(world))["total"]
    assert (total["cost_usd"], total["lost_usd"]) == (PAID, 0)
    assert total["saved_usd"] == about(ON_DEMAND - PAID)


async def test_what_a_release_before_did_not_sum_up_is_unknown(
    world: World, clock: VirtualClock
) -> None:
    await removed(world, await done(world))
    await world.stage.rows("DELETE FROM daily_savings RETURNING 1")
    clock.advance(1)
    total = (await asked(world))["total"]
    assert (total["jobs"], total["cost_usd"]) == (1, PAID)
    assert (total["lost_usd"], total["saved_usd"]) == (None, None)


# -- parameters and bounds -------------------------------------------------------------------------

WRONG = [
    ("since=yesterday", "since must be an ISO 8601 time with its offset"),
    ("until=10:00", "until must be an ISO 8601 time with its offset"),
    ("since=1h&until=1h", "since must be before until, and they may span 366 days"),
    ("since=1h&until=2h", "since must be before until"),
    ("since=367d", "since must be before until, and they may span 366 days"),
    ("until=99999999w", "since must be before until"),
    (
        "by=month",
        "by must be one of day, status, instance_type, image, project, created_by, or label: and a",
    ),
    ("by=label", "by must be one of"),
    ("by=label:", "by must be one of"),
    ("by=", "by must be one of"),
    ("by=label:a%00", "by must not hold a NUL character"),
    (f"by=label:{'a' * 257}", "by: a label's name has at most 256 characters"),
    ("by=day&by=status", "by is given 2 times"),
    ("limit=1", "unknown parameter 'limit': use since, until, by or project"),
]


@pytest.mark.parametrize(("query", "message"), WRONG)
async def test_a_wrong_parameter_is_named(world: World, query: str, message: str) -> None:
    answer = await world.http.get(f"/stats?{query}")
    assert answer.status_code == 400
    assert message_of(answer).startswith(message)


async def test_more_groups_than_are_shown_are_counted_and_in_the_total(
    world: World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "MOST_GROUPS", 2)
    for image in ("a", "b", "c"):
        await done(world, docker_image=image)
    clock.advance(1)
    found = await asked(world, by="image")
    assert (len(found["groups"]), found["groups_left_out"], found["total"]["jobs"]) == (2, 1, 3)


async def test_a_count_that_takes_too_long_says_to_ask_for_less(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "SECONDS", 0.01)
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE")
        answer = await world.http.get("/stats")
    assert answer.status_code == 400
    assert "than can be counted in 0.01 s: ask for a shorter time" in message_of(answer)
    assert (await world.http.get("/list")).status_code == 200, "the next one gets a connection"


async def test_one_question_is_counted_at_a_time_and_the_next_one_is_told_to_try_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "SECONDS", 0.5)
    monkeypatch.setattr(route, "WAIT_SECONDS", 0.01)
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE")
        answers = await asyncio.gather(world.http.get("/stats"), world.http.get("/stats"))
    refused = max(answers, key=lambda each: each.status_code)
    assert sorted(each.status_code for each in answers) == [400, 503]
    assert message_of(refused) == "other statistics are being counted: try again"
    assert refused.headers["retry-after"] == "1"
    assert (await world.http.get("/stats")).status_code == 200
