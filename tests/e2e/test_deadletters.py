"""The dead letters of the embedded system, while it runs and while it does not."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime

from embedded.postgres import EmbeddedPostgres
from shared.events.events import JobCancelled
from shared.postgres.pool import connect
from tests.support.rows.messages import as_message, wrapped
from tests.support.systems.embedded_system import ROOT, EmbeddedSystem
from tests.support.waiting import until

AT = datetime(2026, 1, 1, tzinfo=UTC)


def deadletters(system: EmbeddedSystem, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command on this system's data."""
    kept = {name: value for name, value in os.environ.items() if "DOCKER_JOB" not in name}
    return subprocess.run(
        [sys.executable, "-m", "operations.deadletters", *arguments],
        cwd=ROOT,
        env=kept | {"DOCKER_JOB_DATA_DIR": str(system.data_dir / "data")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def leave_dead(dsn: str) -> str:
    """Leave a cancellation that the scheduler has given up; return its id."""
    message = as_message(wrapped(JobCancelled(job_id=999, attempt=1), at=AT))
    conn = await connect(dsn)
    try:
        await conn.execute(
            "INSERT INTO scheduler.parked (event_id, name, body, state, tries, error, parked_at,"
            " due_at) VALUES ($1, $2, $3, 'dead', 6, 'ValueError: once', $4, $4)",
            message.id,
            message.name,
            message.body,
            AT,
        )
    finally:
        await conn.close()
    return message.id


async def count(dsn: str, sql: str) -> int:
    conn = await connect(dsn)
    try:
        found: int = await conn.fetchval(sql)
    finally:
        await conn.close()
    return found


def test_dead_letters_are_seen_and_redriven_whether_the_system_runs_or_not(
    system: EmbeddedSystem,
) -> None:
    system.start()
    event_id = asyncio.run(leave_dead(system.admin_dsn()))
    assert event_id in deadletters(system, "list").stdout
    assert system.interrupt() == 0

    listed = deadletters(system, "list", "--service", "scheduler")
    assert listed.returncode == 0
    assert event_id in listed.stdout
    postgres = EmbeddedPostgres(system.data_dir / "data" / "postgres")
    assert postgres._postmaster_pid() is None, "what it started it stopped"

    system.start()
    redriven = deadletters(system, "redrive", event_id)
    assert redriven.stdout == f"redriven scheduler {event_id}\n", redriven.stderr
    parked = "SELECT count(*) FROM scheduler.parked"
    # Woken at once: its interval alone would be 30 s.
    until(lambda: not asyncio.run(count(system.admin_dsn(), parked)), seconds=20)
    received = f"SELECT count(*) FROM scheduler.inbox WHERE event_id = '{event_id}'"  # noqa: S608
    assert asyncio.run(count(system.admin_dsn(), received)) == 1
    assert deadletters(system, "list").stdout == "no dead letters\n"
    assert deadletters(system, "show", event_id).returncode == 1
