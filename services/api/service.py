"""The API's composition root."""

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.api import NAME, PUBLISHES
from services.api.agents.agent_file import read_agent_file
from services.api.agents.calls import Admitted, AgentService
from services.api.agents.claims import ClaimService
from services.api.agents.groups import AgentGroups
from services.api.agents.settings import AgentsConfig
from services.api.agents.sts_identity import StsIdentity
from services.api.agents.sweeps import ProofSweep
from services.api.config import ApiConfig
from services.api.http.application import Application, Endpoint
from services.api.http.bodies import Bodies
from services.api.http.gate import Gate
from services.api.http.openapi.document import text
from services.api.http.reception import counted
from services.api.http.responses import ERROR_HANDLERS
from services.api.http.routes.agents import AgentRoutes
from services.api.http.routes.description import DescriptionRoute
from services.api.http.routes.health import HealthRoutes
from services.api.http.routes.jobs import JobRoutes
from services.api.http.routes.logs import LogRoutes
from services.api.http.routes.records import RecordRoutes
from services.api.jobs.availability import record_seconds
from services.api.jobs.availability_sweeps import AvailabilitySweeps
from services.api.jobs.handlers import JobHandlers
from services.api.jobs.launch_path import WATCH_SECONDS, LaunchPath
from services.api.jobs.overdue import ASK_SECONDS, Overdue
from services.api.jobs.queries import JobService
from services.api.jobs.reception import Reception
from services.api.jobs.retention_sweeps import RecordService, RetentionSweep
from services.api.jobs.sweeps import Sweeps
from services.api.keys.access import Access, RateLimit
from services.api.logs.followers import Followers
from services.api.processes.siblings import Siblings
from services.api.submission.intake import Intake
from services.api.submission.sweeps import KeySweep
from shared.events import events
from shared.events.readers import queues_of
from shared.messaging.subscriber import Subscriber
from shared.runtime.failures import as_one, failures_of
from shared.runtime.readiness import check
from shared.runtime.service import Ports, Service, Sweep


@dataclass(frozen=True)
class Api:
    """The API: the service, the loops that accept jobs and serve agents, and the HTTP app."""

    service: Service
    intake: Intake
    agents: AgentGroups
    app: ASGIApp
    listening: Callable[[], contextlib.AbstractContextManager[None]]

    async def run(self) -> None:
        """Run until drained; the caller runs the HTTP server."""
        service = asyncio.create_task(self.service.run(), name="api.service")
        loops = [
            asyncio.create_task(self.intake.run(), name="api.intake"),
            asyncio.create_task(self.agents.run(), name="api.agents"),
        ]
        try:
            with self.listening():
                await asyncio.wait({service, *loops}, return_when=asyncio.FIRST_COMPLETED)
            if ended := [each for each in loops if each.done()]:
                names = ", ".join(each.get_name() for each in ended)
                over = [*ended, service] if service.done() else ended
                errors = failures_of(await asyncio.gather(*over, return_exceptions=True))
                raise RuntimeError(f"{names} ended by itself") from as_one(errors)
            await service
        finally:
            for each in (*loops, service):
                each.cancel()
            await asyncio.gather(*loops, service, return_exceptions=True)


def build(config: ApiConfig, ports: Ports, siblings: Siblings | None = None) -> Api:
    """Compose the API from its settings and ports; *siblings*: the API's other processes."""
    siblings = siblings or Siblings()
    followers = Followers(siblings.announce)
    db, wakeups, changed = ports.db, ports.wakeups, followers.changed
    reception = Reception(ports.clock)
    launch_path = LaunchPath(
        functools.partial(check, db, ports.bus, queues_of(NAME, PUBLISHES)),
    )
    service = Service(
        NAME,
        ports,
        subscribers=_subscribers(JobHandlers(config.rules, changed, random.random)),
        sweeps=(
            *_job_sweeps(config, ports, reception, changed),
            Sweep("watch_launch_path", launch_path.watch, interval_seconds=WATCH_SECONDS),
            Sweep(
                "prune_jobs",
                RetentionSweep(db, config.rules, config.retention).prune_jobs,
                interval_seconds=3600,
            ),
            Sweep("prune_keys", KeySweep(db).prune_keys, interval_seconds=3600),
            Sweep("prune_proofs", ProofSweep(db).prune_proofs, interval_seconds=3600),
        ),
        publishes=PUBLISHES,
        keep_dead=config.keep_dead,
    )
    intake = Intake(db, config.rules, wakeups, ports.points, config.secret_keys)
    lifetime_seconds = config.rules.max_lifetime_seconds
    agents = AgentGroups(db, lifetime_seconds, wakeups, changed, reception.arrivals)
    parts = _Parts(service, intake, agents, reception, followers, siblings, launch_path)
    app = _app(config, parts)
    return Api(service, intake, agents, app, lambda: siblings.listening(followers.wake))


def _job_sweeps(
    config: ApiConfig, ports: Ports, reception: Reception, changed: Callable[[int], None]
) -> tuple[Sweep, ...]:
    db, rules = ports.db, config.rules

    def published() -> None:
        ports.wakeups.wake("relay_outbox")

    availability = AvailabilitySweeps(db, rules, reception)
    sweeps = Sweeps(
        db,
        rules,
        ports.points,
        reception.arrivals,
        changed,
        published=published,
        jitter=random.random,
    )
    overdue = Overdue(db, rules, ports.bus.ready, published)
    return (
        Sweep("end_silent", sweeps.end_silent, interval_seconds=15),
        Sweep(
            "record_availability",
            availability.record_availability,
            interval_seconds=record_seconds(rules),
        ),
        Sweep("prune_outages", availability.prune_outages, interval_seconds=3600),
        Sweep("ask_again", overdue.ask_again, interval_seconds=ASK_SECONDS),
    )


@dataclass(frozen=True)
class _Parts:
    """The parts of the API that its HTTP routes need."""

    service: Service
    intake: Intake
    agents: AgentGroups
    reception: Reception
    followers: Followers
    siblings: Siblings
    launch_path: LaunchPath


def _app(config: ApiConfig, parts: _Parts) -> ASGIApp:
    ports, siblings, followers = parts.service.ports, parts.siblings, parts.followers
    db, trouble = ports.db, parts.launch_path.trouble
    job_service = JobService(
        db, config.rules, ports.wakeups, ports.points, followers.changed, trouble
    )
    bodies = Bodies(config.http.body, siblings.count)
    jobs = JobRoutes(config.http, config.bounds, db, parts.intake, job_service, bodies)
    rate = RateLimit(
        config.http.requests_per_second,
        config.http.requests_at_once,
        lambda: ports.clock.now().timestamp(),
        siblings.buckets,
    )
    access = Access(db)
    gate = Gate(access, rate, config.http.hosts)
    agents = _agents(config.agents, ports, parts.agents, bodies, access)
    app = Application(
        routes=[
            *_user_routes(gate, jobs, LogRoutes(db, followers)),
            *_record_routes(gate, RecordRoutes(db, RecordService(db, config.rules))),
            *_agent_routes(agents, parts.reception),
            *_health_routes(HealthRoutes(parts.service.look)),
            *_description_routes(gate, DescriptionRoute(text(config.http, config.bounds).encode())),
        ],
        exception_handlers=ERROR_HANDLERS,
    )
    # Starlette would redirect `/list/` to `/list` at whatever host the request's Host names.
    app.router.redirect_slashes = False
    return app


def _agents(
    config: AgentsConfig, ports: Ports, groups: AgentGroups, bodies: Bodies, access: Access
) -> AgentRoutes:
    db, points, jitter = ports.db, ports.points, random.random
    identity = None if config.identity is None else StsIdentity(config.identity, ports.clock)
    admitted = Admitted(ports.clock)
    return AgentRoutes(
        AgentService(config, db, groups, admitted, points, jitter),
        ClaimService(config, db, groups, admitted, points, jitter, identity, access),
        bodies,
        read_agent_file(),
    )


def _subscribers(handlers: JobHandlers) -> dict[type[events.Event], Subscriber]:
    on = handlers.on
    return {
        events.LaunchDelayed: Subscriber(on(handlers.on_launch_delayed)),
        events.LaunchRefused: Subscriber(on(handlers.on_launch_refused)),
        events.InstanceLaunched: Subscriber(
            on(handlers.on_instance_launched), wakes=("end_silent",)
        ),
        events.InstanceInterrupted: Subscriber(on(handlers.on_instance_interrupted)),
        events.InstanceTerminated: Subscriber(on(handlers.on_instance_terminated)),
    }


def _route(method: str, path: str, serve: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, Endpoint(serve), methods=[method])


def _user_routes(gate: Gate, jobs: JobRoutes, logs: LogRoutes) -> list[Route]:
    read, submit = "read", "submit"
    return [
        # Matched in this order.
        _route("POST", "/schedule", gate.needs(submit, jobs.schedule)),
        _route("GET", "/status/{id}", gate.needs(read, jobs.status)),
        _route("GET", "/list", gate.needs(read, jobs.list_jobs)),
        _route("DELETE", "/jobs/{id}", gate.needs(submit, jobs.cancel)),
        _route("GET", "/jobs/{id}/logs", gate.needs(read, logs.logs)),
    ]


def _record_routes(gate: Gate, records: RecordRoutes) -> list[Route]:
    return [
        _route("DELETE", "/jobs/{id}/record", gate.needs("admin", records.remove)),
        _route("GET", "/totals", gate.needs("read", records.totals)),
    ]


def _agent_routes(agents: AgentRoutes, reception: Reception) -> list[Route]:
    reports, claims = reception.reports, reception.claims
    return [
        _route("PUT", "/callback/{id}", counted(agents.callback, reports)),
        _route("GET", "/agent/agent.py", agents.agent_file),
        _route("POST", "/agent/claim", counted(agents.claim, claims)),
        _route("POST", "/agent/jobs/{id}/report", counted(agents.report, reports)),
    ]


def _health_routes(health: HealthRoutes) -> list[Route]:
    return [
        _route("GET", "/healthz", health.healthz),
        _route("GET", "/readyz", health.readyz),
    ]


def _description_routes(gate: Gate, description: DescriptionRoute) -> list[Route]:
    shown = gate.needs_no_key(description.description)
    return [_route("GET", "/openapi.json", shown)]
