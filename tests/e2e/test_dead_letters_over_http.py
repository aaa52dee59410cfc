"""A poisoned event in the running system: seen, redriven and gone, over HTTP alone."""

import asyncio
from typing import Any

from shared.messaging.inbox import TRIES
from shared.postgres.pool import connect
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

JOB = 1
POISON = f"ALTER TABLE scheduler.timers ADD CONSTRAINT poison CHECK (job_id <> {JOB}) NOT VALID"
REMEDY = "ALTER TABLE scheduler.timers DROP CONSTRAINT poison"
# The tries of minutes are left out: the next failure is the last.
LAST_TRY = f"UPDATE scheduler.parked SET tries = {TRIES - 1}"  # noqa: S608 - our own number


def execute(system: EmbeddedSystem, sql: str) -> None:
    async def run() -> None:
        conn = await connect(system.admin_dsn())
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    asyncio.run(run())


def count(system: EmbeddedSystem, sql: str) -> int:
    async def run() -> int:
        conn = await connect(system.admin_dsn())
        try:
            found: int = await conn.fetchval(sql)
        finally:
            await conn.close()
        return found

    return asyncio.run(run())


def letters(system: EmbeddedSystem) -> list[dict[str, Any]]:
    answer = system.http.get("/deadletters")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["letters"]
    return found


def test_a_poisoned_event_is_seen_and_redriven_over_http_and_takes_effect_once(
    system: EmbeddedSystem,
) -> None:
    system.start()
    execute(system, POISON)
    assert system.schedule(env_vars={"SIMULATE_SECONDS": "0"}) == JOB
    until(lambda: bool(letters(system)), seconds=20)
    [letter] = letters(system)
    assert (letter["service"], letter["event"], letter["job_id"]) == (
        "scheduler", "JobScheduled", JOB
    )  # fmt: skip
    assert "poison" in letter["error"]
    execute(system, LAST_TRY)
    until(lambda: letters(system)[0]["state"] == "dead", seconds=60)
    path = f"/deadletters/{letter['event_id']}"
    assert f'"job_id":{JOB}' in system.http.get(path).json()["body"]

    execute(system, REMEDY)
    answer = system.http.post(f"{path}/redrive")
    assert answer.status_code == 202, answer.text
    assert system.http.post(f"{path}/redrive").status_code in (202, 404), "harmless, or gone"
    until(lambda: not letters(system), seconds=20)
    assert system.http.get(path).status_code == 404
    job = system.follow(JOB)
    assert (job["status"], len(job["attempts"])) == ("DONE", 1)
    requested = "SELECT count(*) FROM scheduler.outbox WHERE name = 'InstanceRequested'"
    assert count(system, requested) == 1


def test_a_poisoned_event_is_dropped_over_http_and_never_takes_effect(
    system: EmbeddedSystem,
) -> None:
    system.start()
    execute(system, POISON)
    system.schedule(env_vars={"SIMULATE_SECONDS": "0"})
    until(lambda: bool(letters(system)), seconds=20)
    [letter] = letters(system)
    assert system.http.delete(f"/deadletters/{letter['event_id']}").status_code == 202
    until(lambda: not letters(system), seconds=20)
    assert count(system, "SELECT count(*) FROM scheduler.parked") == 0
    assert count(system, "SELECT count(*) FROM scheduler.timers") == 0
