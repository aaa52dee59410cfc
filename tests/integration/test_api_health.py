"""Alive, ready, without a database; and that no secret is written anywhere."""

import asyncio
import traceback
from datetime import timedelta
from typing import Any

import pytest
import structlog
from starlette.requests import Request
from structlog.typing import EventDict

from services.api.http.responses import _STATUSES, on_known_error
from shared import tokens
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.events.events import LaunchDelayed
from shared.postgres.pool import connect
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, Agent, World, message_of, token_of

CANARY = "canary-7f3a9b"


async def test_the_process_is_alive_whatever_else_is_not(world: World, bus: MemoryBus) -> None:
    await bus.close()
    await world.ports.db.close()
    answer = await world.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_readiness_names_what_is_missing(world: World, bus: MemoryBus) -> None:
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    await bus.close()
    answer = await world.http.get("/readyz")
    assert (answer.status_code, answer.json()["degraded"]) == (200, ["bus"])
    assert message_of(answer) == "requests are served; the broker: it is closed"
    await world.ports.db.close()
    answer = await world.http.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["database", "bus"])
    assert message_of(answer) == "not ready: the database does not answer; the broker: it is closed"


async def test_without_a_database_every_route_is_a_503_that_says_so(world: World) -> None:
    agent = await world.running()
    await world.ports.db.close()
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    answers = [
        await world.http.post("/schedule", json=body),
        await world.http.post("/schedule", json=body, headers={"Idempotency-Key": "k"}),
        await world.http.post("/schedule", json=[body, body]),
        await world.http.get("/list"),
        await world.http.get("/status/1"),
        await world.cancel(1),
        await world.http.get("/jobs/1/logs"),
        await world.claim(1),
        await world.report(agent),
        await world.report(agent, phase="running", lines=["x"]),
        await world.call_back(agent, {}),
    ]
    for answer in answers:
        assert answer.status_code == 503, answer.request.url
        assert message_of(answer) == "the database does not answer now: try again"
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [each for each in _STATUSES if _STATUSES[each] == 503])
async def test_every_503_says_when_to_try_again(error: type[Exception]) -> None:
    request = Request({"type": "http"})
    answer = await on_known_error(request, error("not now"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_request_whose_connection_is_cut_is_a_503_and_the_next_one_is_served(
    fresh_world: World, database_url: str
) -> None:
    world = fresh_world
    agent = await world.running()
    admin = await connect(database_url)
    async with admin.transaction():
        await admin.execute("SELECT * FROM api.jobs WHERE id = $1 FOR UPDATE", agent.job_id)
        waiting = asyncio.create_task(world.call_back(agent, {}))
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        )
        while await admin.fetchval(cut) is None:  # noqa: ASYNC110 - the event is Postgres's
            await asyncio.sleep(0)
        answer = await waiting
    await admin.close()
    assert answer.status_code == 503
    assert (await world.status(agent.job_id))["status"] == "RUNNING"
    assert (await world.call_back(agent, {})).status_code == 200


async def test_one_job_that_cannot_be_written_fails_no_neighbour_of_its_group(
    fresh_world: World, database_url: str
) -> None:
    world = fresh_world
    admin = await connect(database_url)
    await admin.execute("ALTER TABLE api.jobs ADD CHECK (name <> 'unwritable')")
    await admin.close()
    names = [*(f"job {n}" for n in range(10)), "unwritable", *(f"job {n}" for n in range(10, 20))]
    posts = [
        world.http.post(
            "/schedule", json={"docker_image": "alpine", "scheduled_for": "now", "name": name}
        )
        for name in names
    ]
    answers = dict(zip(names, await asyncio.gather(*posts), strict=True))
    failed = answers.pop("unwritable")
    assert (failed.status_code, message_of(failed)) == (500, "internal error")
    assert {answer.status_code for answer in answers.values()} == {201}
    assert len((await world.rows())["jobs"]) == len((await world.rows())["outbox"]) == 20


# -- the canary


def written(entries: list[EventDict]) -> str:
    """Return all that *entries* would log before redaction, tracebacks included."""
    parts = []
    for entry in entries:
        error = entry.get("exc_info")
        if isinstance(error, BaseException):
            parts += traceback.format_exception(error)
        parts.append(repr(entry))
    return "\n".join(parts)


async def a_whole_story(world: World, clock: VirtualClock) -> list[str]:
    """Make every call of users and agents, right and wrong; return the tokens that were used."""
    secret: dict[str, Any] = {"env_vars": {"SECRET": CANARY}}
    headers = {"Idempotency-Key": "k"}
    body = {"docker_image": "alpine", "scheduled_for": "now", **secret}
    await world.http.post("/schedule", json=body, headers=headers)
    await world.http.post("/schedule", json={**body, "name": "x"}, headers=headers)
    await world.http.post("/schedule", json={**body, "env_vars": {"SECRET": f"{CANARY}\n"}})
    await world.http.post("/schedule", json={**body, "env_vars": [CANARY]})
    agent = await world.running(**secret)
    await world.claim(agent.job_id)
    await world.claim(agent.job_id, bearer="0" * 64)
    await world.claim(agent.job_id, token=token_of(agent.job_id, 1, "another"))
    await world.report(agent, lines=["hello"])
    await world.report(Agent(agent.job_id, 1, "1" * 64))
    await world.call_back(agent, {"schedule": ""})
    await world.call_back(agent, {"schedule": "", "stopped": True})
    await world.call_back(agent, {})
    second = await world.claimed(agent.job_id, 2)
    clock.advance(61)
    await world.stage.sweep("end_silent")
    await world.cancel(agent.job_id)
    done = await world.running(**secret)
    await world.call_back(done, {"failed": "", "error_message": "boom"})
    await world.ports.db.close()
    await world.http.post("/schedule", json=body)
    await world.report(done)
    bootstrap = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 1)
    return [agent.token, second.token, done.token, bootstrap, TOKEN_KEY, "0" * 64, "1" * 64]


async def test_no_secret_is_logged_or_published(
    fresh_world: World, clock: VirtualClock, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    world = fresh_world
    with structlog.testing.capture_logs() as entries:
        used = await a_whole_story(world, clock)
    assert entries  # something was written, or this test shows nothing
    admin = await connect(database_url)
    outbox = await admin.fetch("SELECT body FROM api.outbox")
    # Tokens are stored as hashes; env values where a claim reads them, and nowhere else.
    elsewhere = await admin.fetchval(
        """SELECT string_agg(row::text, '') FROM (
        SELECT to_jsonb(j) - 'env_vars' AS row FROM api.jobs j
        UNION ALL SELECT to_jsonb(a) FROM api.attempts a
        UNION ALL SELECT to_jsonb(p) FROM api.parked p) rows"""
    )
    await admin.close()
    out, err = capfd.readouterr()
    everywhere = [written(entries), out, err, elsewhere, *(row["body"].decode() for row in outbox)]
    for secret in (CANARY, *used):
        assert not [text for text in everywhere if secret in text], secret


async def test_no_answer_shows_a_token(world: World) -> None:
    agent = await world.running()
    await world.report(agent, lines=["hello"])
    answers = [
        await world.http.get("/list"),
        await world.http.get(f"/status/{agent.job_id}"),
        await world.http.get(f"/jobs/{agent.job_id}/logs"),
        await world.claim(agent.job_id),
        await world.call_back(agent, {}),
        await world.call_back(agent, {"schedule": ""}),
    ]
    hashed = tokens.token_hash(agent.token).hex()
    for answer in answers:
        assert agent.token not in answer.text
        assert hashed not in answer.text


async def test_readiness_names_the_fault_of_the_deployment_for_which_jobs_wait(
    world: World,
) -> None:
    await world.post()
    await world.deliver(
        LaunchDelayed(
            job_id=1,
            attempt=1,
            reason="unknown_outcome",
            message="no such subnet: check it",
            next_try_at=world.ports.clock.now() + timedelta(minutes=5),
            to_change="check DOCKER_JOB_EC2_SUBNETS",
        )
    )
    answer = await world.http.get("/readyz")
    assert (answer.status_code, answer.json()["degraded"]) == (200, ["launches"])
    assert message_of(answer) == "requests are served; jobs wait: no such subnet: check it"
    await world.cancel(1)
    assert (await world.http.get("/readyz")).json() == {"status": "ready"}
