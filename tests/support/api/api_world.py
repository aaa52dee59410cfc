"""The API on a real database, with the calls of users, agents and the other services."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Literal

import httpx
from msgspec import Struct
from starlette.applications import Starlette
from starlette.routing import Route

from services.api.config import ApiConfig, from_settings
from services.api.service import Api, build
from shared import tokens
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.events.events import (
    Event,
    InstanceInterrupted,
    InstanceLaunched,
    InstanceTerminated,
    LaunchDelayed,
    LaunchRefused,
)
from shared.events.requirements import Requirements
from shared.runtime.service import Ports
from shared.settings import Settings
from tests.support.api.described import check
from tests.support.compute.stage import Stage

DEPLOYMENT = "test"
TOKEN_KEY = "the-bootstrap-key-of-the-tests"
NEEDS = Requirements(max_lifetime_seconds=3600)

# All tables that the API writes.
TABLES = (
    "jobs",
    "job_labels",
    "attempts",
    "attempt_consoles",
    "launch_breaker",
    "log_batches",
    "log_tails",
    "idempotency_keys",
    "used_proofs",
    "agent_builds",
    "audit",
    "daily_totals",
    "daily_savings",
    "project_totals",
    "offers",
    "new_job_changes",
    "job_changes",
    "outbox",
    "parked",
)


def a_config(**settings: str) -> ApiConfig:
    """Read the API's settings from an environment with *settings*."""
    environ = {f"DOCKER_JOB_{name}": value for name, value in settings.items()}
    return from_settings(Settings(environ), deployment=DEPLOYMENT, token_key=TOKEN_KEY)


class Agent(Struct, frozen=True):
    """An agent that has claimed its attempt."""

    job_id: int
    attempt: int
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class World:
    """The API, a client of it, and the others' events. Its groups run; its sweeps on demand."""

    def __init__(
        self,
        ports: Ports,
        clock: VirtualClock,
        config: ApiConfig | None = None,
        *,
        groups: bool = True,
    ) -> None:
        self.ports = ports
        self.clock = clock
        self.config = config or a_config()
        self.api: Api = build(self.config, ports)
        self.stage = Stage(self.api.service)
        transport = httpx.ASGITransport(app=self.api.app)
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://localhost", event_hooks={"response": [check]}
        )
        loops = (self.api.intake.run, self.api.agents.run) if groups else ()
        self._loops = [asyncio.create_task(run()) for run in loops]

    @property
    def points(self) -> WatchedPoints:
        points = self.ports.points
        assert isinstance(points, WatchedPoints)
        return points

    @property
    def routes(self) -> set[tuple[str, str]]:
        """The method and the path of every route, but for HEAD, which is answered as GET."""
        assert isinstance(self.api.app, Starlette)
        return {
            (method, route.path)
            for route in self.api.app.routes
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }

    def again(self, **settings: str) -> "World":
        """Make another process of the same API, with other settings."""
        return World(self.ports, self.clock, a_config(**settings))

    async def close_groups(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def close(self) -> None:
        await self.close_groups()
        await self.http.aclose()

    # -- users

    async def post(self, **fields: Any) -> dict[str, Any]:
        """Schedule a job, due now; returns it."""
        body = {"docker_image": "alpine", "scheduled_for": "now", **fields}
        answer = await self.http.post("/schedule", json=body)
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def status(self, job_id: int) -> dict[str, Any]:
        answer = await self.http.get(f"/status/{job_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def cancel(self, job_id: int) -> httpx.Response:
        return await self.http.delete(f"/jobs/{job_id}")

    async def logs(self, job_id: int) -> str:
        return (await self.http.get(f"/jobs/{job_id}/logs")).text

    # -- the other services

    async def deliver(self, *events: Event) -> None:
        await self.stage.deliver(*events)

    def delayed(self, job_id: int, attempt: int = 1, message: str = "no capacity") -> LaunchDelayed:
        return LaunchDelayed(
            job_id=job_id,
            attempt=attempt,
            reason="no_capacity",
            message=message,
            next_try_at=self.clock.now(),
        )

    def refused(self, job_id: int, attempt: int = 1) -> LaunchRefused:
        return LaunchRefused(job_id=job_id, attempt=attempt, message="bad image id")

    def launched(self, job_id: int, attempt: int = 1) -> InstanceLaunched:
        now = self.clock.now()
        return InstanceLaunched(
            job_id=job_id,
            attempt=attempt,
            launch_token=f"launch-{job_id}-{attempt}",
            instance_id=instance_of(job_id, attempt),
            instance_type="m7g.medium",
            zone="us-east-1a",
            market="spot",
            hourly_price_usd=0.0125,
            launched_at=now,
            dies_by=now.replace(year=now.year + 1),
            launch_sequence=1,
            spot_instance_request_id=f"sir-{job_id}-{attempt}",
            on_demand_hourly_price_usd=0.05,
        )

    def warned(
        self,
        job_id: int,
        attempt: int = 1,
        *,
        kind: Literal["interruption", "rebalance"] = "interruption",
    ) -> InstanceInterrupted:
        return InstanceInterrupted(
            instance_id=instance_of(job_id, attempt),
            job_id=job_id,
            attempt=attempt,
            kind=kind,
            noticed_at=self.clock.now(),
        )

    def terminated(
        self, job_id: int, attempt: int = 1, *, spot: bool = False
    ) -> InstanceTerminated:
        return InstanceTerminated(
            instance_id=instance_of(job_id, attempt),
            terminated_at=self.clock.now(),
            cause="it ended",
            spot_interrupted=spot,
            billed_seconds=61,
            cost_usd=0.25,
            job_id=job_id,
            attempt=attempt,
        )

    # -- agents

    async def claim(
        self,
        job_id: int,
        attempt: int = 1,
        *,
        token: str | None = None,
        instance: str | None = None,
        bearer: str | None = None,
        runtime: str = "docker",
        interrupted: bool = False,
    ) -> httpx.Response:
        body: dict[str, Any] = {
            "job_id": job_id,
            "attempt": attempt,
            "instance_id": instance or instance_of(job_id, attempt),
            "token": token or token_of(job_id, attempt),
            "runtime": runtime,
        }
        if interrupted:
            body["interrupted"] = True
        if bearer is None:
            bearer = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, attempt)
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return await self.http.post("/agent/claim", json=body, headers=headers)

    async def claimed(self, job_id: int, attempt: int = 1) -> Agent:
        """Launch an attempt and claim it; return its agent."""
        await self.deliver(self.launched(job_id, attempt))
        answer = await self.claim(job_id, attempt)
        assert answer.status_code == 200, answer.text
        return Agent(job_id, attempt, token_of(job_id, attempt))

    async def running(self, **fields: Any) -> Agent:
        """Schedule a job and run it; return its agent."""
        agent = await self.claimed((await self.post(**fields))["id"])
        answer = await self.report(agent, phase="running")
        assert answer.status_code == 200, answer.text
        return agent

    async def report(
        self,
        agent: Agent,
        *,
        phase: str | None = None,
        detail: object = None,
        lines: Sequence[str | dict[str, str]] | None = None,
        seq: int = 1,
        left_out: tuple[int, int] | None = None,
        job_id: int | None = None,
    ) -> httpx.Response:
        """Report; a line is its text, or fields of it beside the time and the standard output."""
        logs: dict[str, Any] | None = None
        if lines is not None:
            usual = {"at": self.clock.now().isoformat(), "stream": "stdout"}
            sent = [usual | ({"text": each} if isinstance(each, str) else each) for each in lines]
            logs = {"seq": seq, "lines": sent}
            if left_out is not None:
                logs["left_out"] = {"lines": left_out[0], "bytes": left_out[1]}
        return await self.http.post(
            f"/agent/jobs/{job_id or agent.job_id}/report",
            json={"phase": phase, "logs": logs} | ({} if detail is None else {"detail": detail}),
            headers=agent.headers,
        )

    async def call_back(
        self, agent: Agent, body: dict[str, Any], job_id: int | None = None
    ) -> httpx.Response:
        return await self.http.put(
            f"/callback/{job_id or agent.job_id}", json=body, headers=agent.headers
        )

    # -- rows

    async def rows(self, *without: str) -> dict[str, list[dict[str, Any]]]:
        """Load every row of every table but *without*, in one order."""
        found = {}
        for table in TABLES:
            if table not in without:
                query = f"SELECT to_jsonb(t) AS row FROM {table} t ORDER BY 1"  # noqa: S608 - ours
                found[table] = [each["row"] for each in await self.stage.rows(query)]
        return found

    async def published(self) -> list[str]:
        """Return the names of all published events, in order."""
        return [each.name for each in await self.stage.outbox()]


def instance_of(job_id: int, attempt: int) -> str:
    return f"i-{job_id}-{attempt}"


def token_of(job_id: int, attempt: int, salt: str = "agent") -> str:
    """Make a token of 64 hexadecimal digits, as an agent would."""
    return tokens.token_hash(f"{salt}/{job_id}/{attempt}").hex()


def message_of(answer: httpx.Response) -> str:
    """Return the message of an error, which is always JSON."""
    assert answer.headers["content-type"] == "application/json", answer.text
    message: str = json.loads(answer.text)["message"]
    return message
