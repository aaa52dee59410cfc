"""The rate of accepted jobs: one a request, mixed with reads, by the thousand."""

import json
import time
from dataclasses import dataclass

from bench.bare import BareServer, run_ceiling
from bench.client import Ask, Outcome
from bench.cpu import us_a_job
from bench.report import Ceiling, Figure, Goal, at_least, of_ceiling
from bench.run import Run
from bench.system import System, run_system

PART = "accept"
FIRST_SYSTEM = 238.0
"""Accepted jobs a second of the first system, with 32 clients."""

JOB = {"docker_image": "alpine:3.20", "scheduled_for": "+3d", "env_vars": {"KEY": "VALUE"}}
ONE = Ask(kind="accept", method="POST", paths=["/schedule"], body=json.dumps(JOB))
THOUSAND = Ask(kind="accept", method="POST", paths=["/schedule"], body=json.dumps([JOB] * 1000))
JOBS = "SELECT count(*) FROM api.jobs"
NEWEST = "SELECT id FROM api.jobs ORDER BY id DESC LIMIT 1000"
ECHO = Ask(kind="echo", method="POST", paths=["/echo"], body=json.dumps(JOB))


@dataclass(frozen=True)
class Acceptance:
    """The result of a load of job requests."""

    outcome: Outcome
    jobs: int
    """All accepted jobs, those of the warm-up included."""
    seconds: float
    """The time until the scheduler had all of them."""
    settling: float
    """The part of it after the end of the load."""
    cpu_us: dict[str, float]

    @property
    def detail(self) -> dict[str, float]:
        """The details that are reported with the rate."""
        taken = self.outcome.kinds["accept"]
        return {
            "p50_ms": taken.p50_ms,
            "p99_ms": taken.p99_ms,
            "until_scheduler_has_all_seconds": self.settling,
        }


async def measure(run: Run) -> None:
    """Measure every kind of load, each between two loads of its ceiling."""
    seconds = run.pick(5, 2)
    async with run_system(run.servers) as system:
        async with run_ceiling(system.database_url) as bare:
            for clients in (1, 8, 32):
                await _one_at_a_time(run, system, bare, clients, seconds)
            await _mixed(run, system, seconds)
            await _thousands(run, system, bare, seconds)
        run.keep_peaks(system.peak_bytes)


async def _one_at_a_time(
    run: Run, system: System, bare: BareServer, clients: int, seconds: float
) -> None:
    echo = await bare.load(clients, seconds / 2, ECHO)
    before = await bare.load(clients, seconds / 2, ONE)
    ours = await _accept_load(system, clients, seconds, ONE)
    after = await bare.load(clients, seconds / 2, ONE)
    group = (before.rate + after.rate) / 2  # around it, since the machine is not always the same
    goals: tuple[Goal, ...] = ()
    if clients == 32:
        goals = (of_ceiling(0.5), at_least(10 * FIRST_SYSTEM, aside=True))
    run.add(
        Figure(
            part=PART,
            name=f"one job a request, {_clients(clients)}",
            value=ours.outcome.rate,
            unit="jobs/s",
            ceiling=Ceiling("bare group insert", group),
            goals=goals,
            cpu_us=ours.cpu_us,
            detail=ours.detail | {"bare_echo_rate": echo.rate},
        )
    )


async def _mixed(run: Run, system: System, seconds: float) -> None:
    newest = await system.admin.fetch(NEWEST)  # ids have gaps
    reads = Ask(kind="status", method="GET", paths=[f"/status/{row['id']}" for row in newest])
    pages = Ask(kind="list", method="GET", paths=["/list?limit=100"], weight=0.1)
    ours = await system.load(32, seconds, ONE, reads, pages)
    await system.settled()
    taken = ours.kinds["accept"]
    run.add(
        Figure(
            part=PART,
            name="mixed with as many /status and a tenth of /list, 32 clients",
            value=taken.rate,
            unit="jobs/s",
            detail={
                "p50_ms": taken.p50_ms,
                "p99_ms": taken.p99_ms,
                "status_rate": ours.kinds["status"].rate,
                "status_p99_ms": ours.kinds["status"].p99_ms,
                "list_rate": ours.kinds["list"].rate,
                "list_p99_ms": ours.kinds["list"].p99_ms,
            },
        )
    )


async def _thousands(run: Run, system: System, bare: BareServer, seconds: float) -> None:
    before = await bare.load(2, seconds / 4, THOUSAND)
    ours = await _accept_load(system, 2, seconds, THOUSAND)
    after = await bare.load(2, seconds / 4, THOUSAND)
    run.add(
        Figure(
            part=PART,
            name="1,000 jobs a request, 2 clients, until the scheduler has all",
            value=ours.jobs / ours.seconds,
            unit="jobs/s",
            ceiling=Ceiling("bare insert", 1000 * (before.rate + after.rate) / 2),
            goals=(of_ceiling(0.15), at_least(15_000, aside=True), at_least(20_000, aside=True)),
            cpu_us=ours.cpu_us,
            detail=ours.detail | {"accepted_rate": 1000 * ours.outcome.rate},
        )
    )


async def _accept_load(system: System, clients: int, seconds: float, ask: Ask) -> Acceptance:
    """Put load on the API, and wait until the scheduler has all accepted jobs."""
    jobs = await system.count(JOBS)
    cpu = system.meter.read()
    begun = time.monotonic()
    outcome = await system.load(clients, seconds, ask)
    settling = await system.settled(seconds=300)
    took = time.monotonic() - begun
    taken = await system.count(JOBS) - jobs
    return Acceptance(outcome, taken, took, settling, us_a_job(cpu, system.meter.read(), taken))


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"
