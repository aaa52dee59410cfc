"""Old jobs and logs are removed in batches that nobody waits for; their totals stay."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.api.jobs import retention_sweeps
from services.api.jobs.handlers import UnknownJob
from services.api.jobs.retention import RetentionDefaults
from services.api.jobs.retention_store import load_defaults
from shared.clock import VirtualClock
from shared.events.events import Event
from tests.support.api.api_world import Agent, World, message_of
from tests.support.rows.messages import wrapped

DAY = 86_400
KEY = "0f" * 32
KEPT = {"KEEP_JOBS_DAYS": "90", "KEEP_LOGS_DAYS": "30"}
RICH: dict[str, Any] = {"labels": {"team": "data", "env": "x"}, "secret_env": {"A": "secret"}}
JOB_COLUMNS = """
SELECT c.table_name AS name, c.column_name AS id
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE table_schema = 'api' AND t.table_type = 'BASE TABLE'
    AND (c.column_name = 'job_id' OR (c.table_name, c.column_name) = ('jobs', 'id'))
"""


@pytest.fixture
async def keeping(world: World) -> AsyncIterator[World]:
    """Make the API of a deployment that keeps jobs for 90 days and logs for 30."""
    keeping = world.again(**KEPT, SECRETS_KEY=KEY, WIPE_SECRETS="no", LOG_LIMIT_BYTES="20")
    yield keeping
    await keeping.close()


async def finished(world: World, *, terminated: bool = True, **fields: Any) -> int:
    """Run a job to its end; return its id."""
    agent = await world.running(**fields)
    await world.report(agent, lines=["12345678", "x" * 40, "tail"])
    await done(world, agent)
    if terminated:
        await world.deliver(world.terminated(agent.job_id))
    return agent.job_id


async def done(world: World, agent: Agent) -> None:
    answer = await world.call_back(agent, {})
    assert answer.status_code == 200, answer.text


async def prune(world: World) -> int:
    """Run the sweep until nothing is left; return the number of passes."""
    passes = 1
    while await world.stage.sweep("prune_jobs") is not None:
        passes += 1
        assert passes < 100
    return passes


async def apply(world: World, event: Event) -> None:
    await world.api.service.inbox.apply([wrapped(event, at=world.clock.now())])


async def ids(world: World) -> list[int]:
    return [row["id"] for row in await world.stage.rows("SELECT id FROM jobs ORDER BY id")]


async def left_of(world: World, job_id: int) -> dict[str, int]:
    """Count the rows of a job in each table that has some, found in the catalog."""
    counts = {}
    for table in await world.stage.rows(JOB_COLUMNS):
        sql = f"SELECT count(*) AS n FROM {table['name']} WHERE {table['id']} = {job_id}"  # noqa: S608 - the server's names
        [row] = await world.stage.rows(sql)
        if row["n"]:
            counts[table["name"]] = row["n"]
    return counts


SCHEDULED = {"audit": 1}
"""Who scheduled the job stays in the audit trail, which has retention of its own."""


async def totals(world: World) -> Sequence[dict[str, Any]]:
    today = world.clock.now().date().isoformat()
    answer = await world.http.get(f"/totals?from=2025-12-01&to={today}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def test_logs_go_after_their_days_jobs_after_theirs_and_no_row_is_left(
    keeping: World, clock: VirtualClock
) -> None:
    job_id = await finished(keeping, **RICH)
    belongs = {"jobs", "job_labels", "job_secrets", "attempts", "log_batches", "log_tails"}
    belongs |= {"new_job_changes", "audit"}
    assert set(await left_of(keeping, job_id)) == belongs
    clock.advance(30 * DAY)
    await prune(keeping)
    assert set(await left_of(keeping, job_id)) == belongs
    clock.advance(1)
    await prune(keeping)
    assert set(await left_of(keeping, job_id)) == belongs - {"log_batches", "log_tails"}
    assert (await keeping.status(job_id))["status"] == "DONE"
    clock.advance(60 * DAY - 1)
    await prune(keeping)
    assert await left_of(keeping, job_id) != {}
    clock.advance(1)
    await prune(keeping)
    assert await left_of(keeping, job_id) == SCHEDULED
    assert (await keeping.http.get(f"/status/{job_id}")).status_code == 404
    assert (await keeping.http.get("/list?label=team:data")).json() == []


async def test_a_deployment_without_settings_keeps_what_its_row_says(
    world: World, clock: VirtualClock
) -> None:
    job_id = await finished(world)
    clock.advance(1000 * DAY)
    await prune(world)
    assert await ids(world) == [job_id]  # without a row: for ever
    async with world.ports.db.connection() as conn:
        await conn.execute("INSERT INTO retention (jobs_days, logs_days) VALUES (NULL, 30)")
    await prune(world)
    assert await ids(world) == [job_id]
    assert await world.logs(job_id) == f"--- this log was removed on {clock.now():%Y-%m-%d} ---\n"
    marked = await world.http.get(f"/jobs/{job_id}/logs?timestamps=1&streams=1&attempt=1")
    at = clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert marked.text.startswith(f"{at} docker-job --- this log was removed on ")
    followed = await world.http.get(f"/jobs/{job_id}/logs?follow=1")
    assert followed.text.startswith("id: 0.0.end\nevent: end\n")
    async with world.ports.db.connection() as conn:
        await conn.execute("UPDATE retention SET jobs_days = 90")
    await prune(world)
    assert await ids(world) == []


async def test_what_is_kept_is_logged_once_at_the_start(
    keeping: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await prune(keeping)
    await prune(keeping)
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("jobs are kept 90 days, logs 30 days") == 1


async def test_jobs_that_may_still_change_stay(keeping: World, clock: VirtualClock) -> None:
    waiting = (await keeping.post(scheduled_for="2027-01-01T00:00:00Z"))["id"]
    running = (await keeping.running()).job_id
    # Its instance lives for a year, see `World.launched`, and nobody has seen it terminated.
    unconfirmed = await finished(keeping, terminated=False)
    removable = await finished(keeping)
    clock.advance(100 * DAY)
    await prune(keeping)
    assert await ids(keeping) == [waiting, running, unconfirmed]
    assert (await keeping.http.get(f"/status/{removable}")).status_code == 404
    await keeping.deliver(keeping.terminated(unconfirmed))
    await prune(keeping)
    assert await ids(keeping) == [waiting, running]


async def test_a_job_stays_while_its_idempotency_key_is_honoured(
    world: World, clock: VirtualClock
) -> None:
    short = world.again(KEEP_JOBS_DAYS="1")
    body = {"docker_image": "alpine", "scheduled_for": "2026-06-01T00:00:00Z"}
    headers = {"Idempotency-Key": "one"}
    first = await short.http.post("/schedule", json=body, headers=headers)
    job_id = first.json()["id"]
    await short.cancel(job_id)
    clock.advance(3 * DAY)
    await prune(short)
    again = await short.http.post("/schedule", json=body, headers=headers)
    assert (again.json()["id"], await ids(short)) == (job_id, [job_id])
    clock.advance(5 * DAY)
    await short.stage.sweep("prune_keys")
    await prune(short)
    assert await left_of(short, job_id) == {"audit": 2}
    await short.close()


async def test_a_locked_job_holds_up_no_other_and_goes_in_a_later_round(
    keeping: World, clock: VirtualClock
) -> None:
    jobs = [await finished(keeping) for _ in range(3)]
    clock.advance(91 * DAY)
    async with keeping.ports.db.transaction() as tx:
        await tx.conn.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", jobs[1])
        async with asyncio.timeout(10):
            await prune(keeping)
        assert await ids(keeping) == [jobs[1]]
    await prune(keeping)
    assert await ids(keeping) == []


async def test_a_long_log_is_removed_in_several_short_transactions(
    keeping: World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_sweeps, "LOG_ROWS", 2)
    monkeypatch.setattr(retention_sweeps, "JOBS", 2)
    jobs = [await finished(keeping) for _ in range(3)]
    async with keeping.ports.db.connection() as conn:
        await conn.execute(
            "INSERT INTO log_batches (job_id, attempt, seq, lines)"
            " SELECT $1, 1, n, '[]' FROM generate_series(100, 104) AS n",
            jobs[0],
        )
    clock.advance(31 * DAY)
    started = clock.now()
    due_again = await keeping.stage.sweep("prune_jobs")
    assert due_again is not None
    assert due_again > started  # a pause, so that others have the database meanwhile
    assert "log_batches" in await left_of(keeping, jobs[0])
    assert await prune(keeping) > 3
    assert [set(await left_of(keeping, each)) for each in jobs] == [
        {"jobs", "attempts", "new_job_changes", "audit"}
    ] * 3
    clock.advance(60 * DAY)
    await prune(keeping)
    assert await ids(keeping) == []


async def test_totals_are_the_same_before_and_after_the_removal(
    keeping: World, clock: VirtualClock
) -> None:
    for _ in range(3):
        await finished(keeping)
    interrupted = await keeping.running()
    await keeping.deliver(
        keeping.warned(interrupted.job_id), keeping.terminated(interrupted.job_id, spot=True)
    )
    await done(keeping, await keeping.claimed(interrupted.job_id, 2))
    await keeping.cancel((await keeping.post(scheduled_for="2027-01-01T00:00:00Z"))["id"])
    clock.advance(DAY)
    await finished(keeping)
    before = await totals(keeping)
    assert before[0] == {
        "day": "2026-01-01", "status": "CANCELLED", "jobs": 1, "attempts": 1, "interruptions": 0,
        "billed_seconds": 0, "cost_usd": 0.0, "unknown_costs": 0,
    }  # fmt: skip
    assert before[1] == {
        "day": "2026-01-01", "status": "DONE", "jobs": 4, "attempts": 5, "interruptions": 1,
        "billed_seconds": 244, "cost_usd": 1.0, "unknown_costs": 1,
    }  # fmt: skip
    assert [(each["day"], each["jobs"]) for each in before[2:]] == [("2026-01-02", 1)]
    # Some with their logs, some without, some removed: of every kind at once.
    clock.advance(29 * DAY + 1)
    await prune(keeping)
    assert await totals(keeping) == before
    await keeping.http.delete(f"/jobs/{interrupted.job_id - 1}/record")
    assert await totals(keeping) == before
    clock.advance(60 * DAY)
    await prune(keeping)
    assert await ids(keeping) != []
    assert await totals(keeping) == before
    clock.advance(400 * DAY)
    await prune(keeping)
    assert await ids(keeping) == []
    answer = await keeping.http.get("/totals?from=2026-01-01&to=2026-01-02")
    assert answer.json() == before


async def test_a_late_event_about_a_removed_job_is_ignored(
    keeping: World, clock: VirtualClock
) -> None:
    older, job_id = await finished(keeping), await finished(keeping)
    assert (await keeping.http.delete(f"/jobs/{job_id}/record")).status_code == 204
    before = await keeping.rows()
    await keeping.deliver(
        keeping.launched(job_id), keeping.terminated(job_id), keeping.delayed(job_id, 2)
    )
    assert await keeping.rows() == before
    with pytest.raises(UnknownJob):  # never accepted here
        await apply(keeping, keeping.launched(job_id + 1))
    with pytest.raises(UnknownJob):  # the job is there, and has no such attempt
        await apply(keeping, keeping.launched(older, 9))


async def test_in_a_batch_the_events_of_other_jobs_take_effect(keeping: World) -> None:
    removed, agent = await finished(keeping), await keeping.running()
    await keeping.http.delete(f"/jobs/{removed}/record")
    at = keeping.clock.now()
    events = [keeping.terminated(removed), keeping.terminated(agent.job_id)]
    await keeping.api.service.inbox.apply([wrapped(each, at=at) for each in events])
    attempt = (await keeping.status(agent.job_id))["attempts"][0]
    assert attempt["instance_gone_at"] is not None


async def test_the_record_of_a_finished_job_is_removed_by_hand(keeping: World) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"docker_image": "alpine", "scheduled_for": "now", **RICH}
    job_id = (await keeping.http.post("/schedule", json=body, headers=headers)).json()["id"]

    async def refusal() -> str:
        answer = await keeping.http.delete(f"/jobs/{job_id}/record")
        assert answer.status_code == 409, answer.text
        return message_of(answer)

    assert await refusal() == f"job {job_id} is SCHEDULED: cancel it first"
    agent = await keeping.claimed(job_id)
    await keeping.report(agent, phase="running")
    assert await refusal() == f"job {job_id} is RUNNING: cancel it first"
    await done(keeping, agent)
    assert f"instance i-{job_id}-1 of attempt 1 of job {job_id} is not known" in await refusal()
    await keeping.deliver(keeping.terminated(job_id))
    assert "idempotency_keys" in await left_of(keeping, job_id)
    answer = await keeping.http.delete(f"/jobs/{job_id}/record")
    assert (answer.status_code, answer.text) == (204, "")
    assert await left_of(keeping, job_id) == {"audit": 2}
    [total] = await totals(keeping)
    assert (total["jobs"], total["cost_usd"]) == (1, 0.25)
    assert (await keeping.http.delete(f"/jobs/{job_id}/record")).status_code == 404
    assert (await keeping.report(agent)).status_code in (401, 404)


async def test_a_cancelled_job_that_may_get_an_instance_stays_for_an_hour(
    keeping: World, clock: VirtualClock
) -> None:
    job_id = (await keeping.post())["id"]
    await keeping.cancel(job_id)
    answer = await keeping.http.delete(f"/jobs/{job_id}/record")
    assert answer.status_code == 409
    assert "may still be reported as launched until 2026-01-01T01:00:00Z" in message_of(answer)
    clock.advance(3600)
    assert (await keeping.http.delete(f"/jobs/{job_id}/record")).status_code == 204


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from=2026-1-1", "from must be a day (UTC), like 2026-01-31"),
        ("to=2026-02-30", "to must be a day (UTC), like 2026-01-31"),
        ("from=2026-W01-1", "from must be a day (UTC), like 2026-01-31"),
        ("from=2026-01-02&to=2026-01-01", "from must be a day before to"),
        ("from=2025-01-01&to=2026-01-02", "they may span 366 days"),
        ("since=2026-01-01", "unknown parameter 'since': use from, to or project"),
    ],
)
async def test_a_wrong_span_of_totals_is_refused(world: World, query: str, message: str) -> None:
    answer = await world.http.get(f"/totals?{query}")
    assert answer.status_code == 400
    assert message in message_of(answer)


async def test_the_first_and_the_last_day_of_all_are_days(world: World) -> None:
    for query in ("to=0001-01-01", "to=9999-12-31", "from=9999-12-31&to=9999-12-31"):
        answer = await world.http.get(f"/totals?{query}")
        assert (answer.status_code, answer.json()) == (200, [])


async def test_a_new_deployment_has_the_defaults(fresh_world: World) -> None:
    async with fresh_world.ports.db.connection() as conn:
        assert await load_defaults(conn) == RetentionDefaults(90, 30)
