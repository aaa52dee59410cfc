"""The process ends hard at every point that the code names, and the next start continues.

A system goes through a share of them, one start a point, with jobs coming due all the while. Most
points are on the way of any job; the others need something to happen first (`STAGED`).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest

from operations.wiring import SERVICES
from shared.crash_points import EXIT_STATUS
from shared.events import cloudevents
from shared.events.events import (
    AttemptEnded,
    Event,
    InstanceTerminated,
    JobCancelled,
    LaunchDelayed,
)
from shared.postgres.pool import Connection, connect
from tests.e2e.test_kill import _figures, _no_agents
from tests.support.rows.messages import as_message, wrapped
from tests.support.systems.crash_points import NAMES, all_points
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.systems.traces import FIGURES, ZERO
from tests.support.waiting import until

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHARDS = 2
"""Workers go through the points side by side: each shard has every second and its own system."""

BACKGROUND = 10
"""Jobs of a shard that come due one after the other while its points are gone through."""

POINT_SECONDS = 80.0
UNKNOWN_JOB = 2**62
SILENT_SECONDS = 10.0
"""Long enough for its agent to be frozen before it is over, on a busy machine too."""
TOO_LARGE = 2**63  # for a bigint: the handler fails on it


# -- what must happen for a point to be passed -----------------------------------------------------


def post(system: EmbeddedSystem, key: str, scheduled_for: str = "now", seconds: float = 0) -> int:
    """POST a job under *key*, so that posting it again after the crash gives the same one."""
    body = {
        "docker_image": "alpine",
        "scheduled_for": scheduled_for,
        "env_vars": {"SIMULATE_SECONDS": str(seconds)},
    }
    answer = system.http.post("/schedule", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code in (200, 201), answer.text
    return int(answer.json()["id"])


def post_now(system: EmbeddedSystem, point: str) -> None:
    post(system, point)


def post_without_key(system: EmbeddedSystem, _point: str) -> None:
    system.schedule(env_vars={"SIMULATE_SECONDS": "0"})


def cancel(system: EmbeddedSystem, point: str) -> None:
    job_id = post(system, point, scheduled_for="+1h")
    system.http.delete(f"/jobs/{job_id}")


def silence(system: EmbeddedSystem, point: str) -> None:
    """Freeze its agent as soon as it runs.

    If it were killed, its instance would be terminated, and the reaper might be the first to know.
    """
    job_id = post(system, point, seconds=SILENT_SECONDS)
    until(lambda: system.job(job_id)["status"] == "RUNNING", POINT_SECONDS)
    (pid,) = system.agents(job_id)
    os.kill(pid, signal.SIGSTOP)


CONSUMED: dict[str, Callable[[int], Event]] = {
    "api": lambda job_id: LaunchDelayed(
        job_id=job_id, attempt=1, reason="throttled", message="", next_try_at=AT
    ),
    "scheduler": lambda job_id: JobCancelled(job_id=job_id, attempt=1),
    "launcher": lambda job_id: JobCancelled(job_id=job_id, attempt=1),
    "reaper": lambda job_id: AttemptEnded(
        job_id=job_id, attempt=1, cause="done", ended_at=AT, terminate_after=AT
    ),
}
"""An event that each service consumes."""

ORPHAN = InstanceTerminated(
    instance_id="of no job",
    terminated_at=AT,
    cause="",
    spot_interrupted=False,
    billed_seconds=0,
    cost_usd=0,
)
"""What the API can do with an event of a job that it does not know."""


async def publish_unreadable(conn: Connection, service: str) -> None:
    await publish(conn, type(CONSUMED[service](0)).__name__, cloudevents.new_id(), b"poison")


async def publish_failing(conn: Connection, service: str) -> None:
    message = as_message(wrapped(CONSUMED[service](TOO_LARGE), at=AT))
    await publish(conn, message.name, message.id, message.body)


async def publish(conn: Connection, name: str, batch_id: str, body: bytes) -> None:
    """Publish it for a service whose outbox the figures do not check for events of its name."""
    await conn.execute(
        "INSERT INTO scheduler.outbox (batch_id, name, body, created_at) VALUES ($1, $2, $3, $4)",
        batch_id,
        name,
        body,
        AT,
    )


async def park(conn: Connection, service: str) -> None:
    """Park an event whose handler failed; it is due, and will succeed this time."""
    event = ORPHAN if service == "api" else CONSUMED[service](UNKNOWN_JOB)
    message = as_message(wrapped(event, at=AT))
    await conn.execute(f"SET search_path TO {service}")
    await conn.execute(
        "INSERT INTO parked (event_id, name, body, state, tries, error, parked_at, due_at)"
        " VALUES ($1, $2, $3, 'waiting', 1, 'ValueError: once', $4, $4)",
        message.id,
        message.name,
        message.body,
        AT,
    )


STAGED: dict[str, Callable[[Connection, str], Awaitable[None]]] = {
    "buried": publish_unreadable,
    "parked": publish_failing,
    "retried": park,
}
"""What is laid in the database before the start, by the last part of the point's name."""

DONE_BY: dict[str, Callable[[EmbeddedSystem, str], None]] = {
    "api.accepted": post_without_key,
    "api.cancelled": cancel,
    "api.silent_ended": silence,
}
SETTINGS = {"api.silent_ended": {"DOCKER_JOB_SILENCE_SECONDS": "2"}}


# -- the story -------------------------------------------------------------------------------------


def test_there_are_points_to_be_killed_at() -> None:
    assert len(all_points()) > 40


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "shard", range(SHARDS), ids=[f"shard {number} of {SHARDS}" for number in range(1, SHARDS + 1)]
)
def test_killed_at_each_point_the_next_start_goes_on_and_every_job_ends_once(
    system: EmbeddedSystem, shard: int
) -> None:
    points = all_points()[shard::SHARDS]
    system.start()
    for number in range(BACKGROUND):
        background(system, number)
    system.kill()
    for point in points:
        die_at(system, point)
    system.start()
    for point in points:
        post_again(system, point)
    for number in range(BACKGROUND):
        background(system, number)
    ends = [system.follow(job["id"], seconds=120) for job in system.jobs()]
    assert len(ends) == len(points) + BACKGROUND, "each that was accepted, and each once"
    cancelled = [job for job in ends if job["status"] == "CANCELLED"]
    assert {job["status"] for job in ends} <= {"DONE", "CANCELLED"}
    causes = [job["attempts"][-1]["cause"] for job in cancelled]
    assert causes == ["cancelled"] * ("api.cancelled" in points)
    asyncio.run(prove(system, points, jobs=len(ends)))
    _no_agents(system)


def background(system: EmbeddedSystem, number: int) -> None:
    post(system, f"background {number}", scheduled_for=f"+{3 * number}s", seconds=1)


def die_at(system: EmbeddedSystem, point: str) -> None:
    """Start, cause the steps that lead to *point*, and check that the process ends there."""
    service, _, step = point.partition(".")
    if step in STAGED and service in NAMES:
        asyncio.run(laid(system, STAGED[step], service))
    # It may be over before it is ready, or while it is asked for something.
    with contextlib.suppress(AssertionError):
        system.start(DOCKER_JOB_EXIT_AT=point, **SETTINGS.get(point, {}))
    assert system.process is not None
    with contextlib.suppress(httpx.TransportError):
        DONE_BY.get(point, post_now)(system, point)
    try:
        status = system._wait(POINT_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{point} was not passed: what leads to it?") from None
    assert status == EXIT_STATUS, (point, system.log.read_text()[-3000:])


async def laid(
    system: EmbeddedSystem, lay: Callable[[Connection, str], Awaitable[None]], service: str
) -> None:
    conn = await connect(system.admin_dsn())
    try:
        await lay(conn, service)
    finally:
        await conn.close()


def post_again(system: EmbeddedSystem, point: str) -> None:
    """Post the job of *point* again, as a client does that never got an answer."""
    if point == "api.cancelled":
        post(system, point, scheduled_for="+1h")
    elif point == "api.silent_ended":
        post(system, point, seconds=SILENT_SECONDS)
    elif point != "api.accepted":  # without a key it would be another job
        post(system, point)


async def prove(system: EmbeddedSystem, points: list[str], *, jobs: int) -> None:
    """Compare published and received events, once the last instance is confirmed terminated."""
    expected = dict.fromkeys(ZERO, 0) | {"parked": _stay_parked(points)}
    conn = await connect(system.admin_dsn())
    try:
        deadline = time.monotonic() + 90  # a lease that the last kill left
        figures = await _figures(conn)
        while expected.items() - figures.items() and time.monotonic() < deadline:
            await conn.execute("SELECT pg_sleep(0.2)")
            figures = await _figures(conn)
    finally:
        await conn.close()
    print(f"\ncrash points {len(points)} of {len(all_points())}: {figures}")
    assert figures["jobs"] == figures["finished"] == jobs
    assert {name: figures[name] for name in expected} == expected
    assert set(figures) == set(FIGURES)


def _stay_parked(points: list[str]) -> int:
    """Count the unreadable and failing events of such points, at each of the event's readers."""
    readers = [
        name for name in NAMES for step in ("buried", "parked") if f"{name}.{step}" in points
    ]
    kinds = [type(CONSUMED[name](UNKNOWN_JOB)) for name in readers]
    return sum(kind in service.CONSUMES for kind in kinds for service in SERVICES)
