"""`kill -9` loses nothing: jobs in flight, kills at random times, and the traces afterwards."""

import asyncio
import random
import time

import pytest

from shared.postgres.pool import Connection, connect
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.systems.traces import FIGURES, ZERO
from tests.support.waiting import until

SEED = 20261123


def test_three_kills_with_ten_jobs_in_flight_lose_and_double_nothing(
    system: EmbeddedSystem,
) -> None:
    be_killed(system, kills=3, jobs=10)


@pytest.mark.campaign
@pytest.mark.timeout(420)
def test_twenty_kills_with_fifty_jobs_in_flight_lose_and_double_nothing(
    system: EmbeddedSystem,
) -> None:
    be_killed(system, kills=20, jobs=50)


def be_killed(system: EmbeddedSystem, kills: int, jobs: int) -> None:
    """Kill it *kills* times while *jobs* jobs are in flight, and check the results."""
    chance = random.Random(SEED)
    system.start()
    ids = [
        system.schedule(
            f"+{chance.randrange(1 + kills * 7 // 4)}s",
            env_vars={"SIMULATE_SECONDS": str(chance.random() * 8)},
        )
        for _ in range(jobs)
    ]
    for _ in range(kills):
        assert system.process is not None
        with pytest.raises(Exception, match="timed out"):
            system.process.wait(chance.random() * 2)  # a random time, unless it ends by itself
        system.kill()
        system.start()
    ends = [system.follow(job_id, seconds=120) for job_id in ids]
    assert {job["status"] for job in ends} == {"DONE"}
    asyncio.run(_prove(system, kills, jobs))
    _no_agents(system)


async def _prove(system: EmbeddedSystem, kills: int, jobs: int) -> None:
    """Compare published and received events, once the last instance is confirmed terminated."""
    conn = await connect(system.admin_dsn())
    try:
        # What the last kill left under a lease is due again when that has run out.
        deadline = time.monotonic() + 90
        figures = await _figures(conn)
        while any(figures[name] for name in ZERO) and time.monotonic() < deadline:
            await conn.execute("SELECT pg_sleep(0.2)")
            figures = await _figures(conn)
    finally:
        await conn.close()
    print(f"\n{kills} kills, seed {SEED}: {figures}")
    assert figures["jobs"] == figures["finished"] == jobs
    assert {name: figures[name] for name in ZERO} == dict.fromkeys(ZERO, 0)


async def _figures(conn: Connection) -> dict[str, int]:
    return {name: int(await conn.fetchval(sql)) for name, sql in FIGURES.items()}


def _no_agents(system: EmbeddedSystem) -> None:
    until(lambda: not system.agents(), what="agents are left")
