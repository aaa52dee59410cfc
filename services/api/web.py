"""The API's HTTP application: its routes, composed from the parts of the service."""

import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.api.agents.builds import AgentBuilds
from services.api.agents.calls import Admitted, AgentService
from services.api.agents.claims import ClaimService
from services.api.agents.groups import AgentGroups
from services.api.agents.settings import AgentsConfig
from services.api.agents.sts_identity import StsIdentity
from services.api.changes.feed import ChangeFeed
from services.api.changes.followers import Followers
from services.api.config import ApiConfig
from services.api.dead_letters.letters import LetterService
from services.api.http.application import Application, Endpoint
from services.api.http.bodies import Bodies
from services.api.http.gate import Gate
from services.api.http.openapi.document import text
from services.api.http.reception import counted
from services.api.http.responses import ERROR_HANDLERS
from services.api.http.routes.about import AboutRoute
from services.api.http.routes.agents import AgentRoutes
from services.api.http.routes.dead_letters import DeadLetterRoutes
from services.api.http.routes.description import DescriptionRoute
from services.api.http.routes.events import EventRoutes
from services.api.http.routes.health import HealthRoutes
from services.api.http.routes.instances import InstancesRoute
from services.api.http.routes.jobs import JobRoutes
from services.api.http.routes.listing import ListRoute
from services.api.http.routes.logs import LogRoutes
from services.api.http.routes.plan import PlanRoutes
from services.api.http.routes.quotas import QuotasRoute
from services.api.http.routes.records import RecordRoutes
from services.api.http.routes.reruns import RerunRoute
from services.api.http.routes.stats import StatsRoute
from services.api.jobs.breaker_store import paused
from services.api.jobs.launch_path import LaunchPath
from services.api.jobs.queries import JobService
from services.api.jobs.reception import Reception
from services.api.jobs.retention_sweeps import RecordService
from services.api.keys.access import Access, RateLimit
from services.api.processes.siblings import Siblings
from services.api.quotas.view import QuotaService
from services.api.submission.intake import Intake
from services.api.submission.rerun import Reruns
from shared.runtime.service import Service


@dataclass(frozen=True)
class Parts:
    """The parts of the API that its HTTP routes need."""

    service: Service
    intake: Intake
    agents: AgentGroups
    reception: Reception
    followers: Followers
    feed: ChangeFeed
    siblings: Siblings
    launch_path: LaunchPath
    builds: AgentBuilds


def make_app(config: ApiConfig, parts: Parts) -> ASGIApp:
    """Make the HTTP application of an API with these settings and parts."""
    ports, siblings, followers = parts.service.ports, parts.siblings, parts.followers
    db, trouble = ports.db, parts.launch_path.trouble
    job_service = JobService(db, config.rules, ports.wakeups, ports.points, trouble)
    bodies = Bodies(config.http.body, siblings.count)
    jobs = JobRoutes(config.http, config.bounds, db, parts.intake, job_service, bodies)
    reruns = Reruns(db, config.bounds, config.secret_keys)
    plans = PlanRoutes(db, config.rules, config.bounds, bodies)
    access = Access(db)
    gate = Gate(access, _rate_limit(config, parts), config.http.hosts)
    agents = _agents(config.agents, parts, bodies, access)
    app = Application(
        routes=[
            *_user_routes(gate, jobs, plans, LogRoutes(db, followers)),
            *_event_routes(gate, EventRoutes(parts.feed, followers)),
            *_list_routes(gate, ListRoute(config.http, db, job_service)),
            *_rerun_routes(gate, RerunRoute(config.http, parts.intake, reruns, bodies)),
            *_overview_routes(
                gate,
                StatsRoute(db),
                InstancesRoute(config.http, db),
                AboutRoute(config, ports.clock),
                QuotasRoute(QuotaService(db, config.quotas)),
            ),
            *_record_routes(gate, RecordRoutes(db, RecordService(db, config.rules))),
            *_dead_letter_routes(gate, DeadLetterRoutes(LetterService(db, ports.wakeups))),
            *_agent_routes(agents, parts.reception),
            *_health_routes(HealthRoutes(parts.service.look, functools.partial(paused, db))),
            *_description_routes(gate, DescriptionRoute(text(config.http, config.bounds).encode())),
        ],
        exception_handlers=ERROR_HANDLERS,
    )
    # Starlette would redirect `/list/` to `/list` at whatever host the request's Host names.
    app.router.redirect_slashes = False
    return app


def _rate_limit(config: ApiConfig, parts: Parts) -> RateLimit:
    clock = parts.service.ports.clock
    return RateLimit(
        config.http.requests_per_second,
        config.http.requests_at_once,
        lambda: clock.now().timestamp(),
        parts.siblings.buckets,
    )


def _agents(config: AgentsConfig, parts: Parts, bodies: Bodies, access: Access) -> AgentRoutes:
    ports, groups, jitter = parts.service.ports, parts.agents, random.random
    db, points = ports.db, ports.points
    identity = None if config.identity is None else StsIdentity(config.identity, ports.clock)
    admitted = Admitted(ports.clock)
    return AgentRoutes(
        AgentService(config, db, groups, admitted, points, jitter),
        ClaimService(config, db, groups, admitted, points, jitter, identity, access),
        bodies,
        parts.builds,
    )


def _route(method: str, path: str, serve: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, Endpoint(serve), methods=[method])


def _user_routes(gate: Gate, jobs: JobRoutes, plans: PlanRoutes, logs: LogRoutes) -> list[Route]:
    read, submit = "read", "submit"
    return [
        # Matched in this order.
        _route("POST", "/schedule", gate.needs(submit, jobs.schedule)),
        _route("POST", "/plan", gate.needs(read, plans.plan)),
        _route("GET", "/status/{id}", gate.needs(read, jobs.status)),
        _route("DELETE", "/jobs/{id}", gate.needs(submit, jobs.cancel)),
        _route("GET", "/jobs/{id}/logs", gate.needs(read, logs.logs)),
    ]


def _rerun_routes(gate: Gate, rerun: RerunRoute) -> list[Route]:
    return [_route("POST", "/jobs/{id}/rerun", gate.needs("submit", rerun.rerun))]


def _overview_routes(
    gate: Gate,
    stats: StatsRoute,
    instances: InstancesRoute,
    about: AboutRoute,
    quotas: QuotasRoute,
) -> list[Route]:
    return [
        _route("GET", "/stats", gate.needs("read", stats.stats)),
        _route("GET", "/instances", gate.needs("read", instances.instances)),
        _route("GET", "/about", gate.needs("read", about.about)),
        _route("GET", "/quotas", gate.needs("read", quotas.quotas)),
    ]


def _event_routes(gate: Gate, events: EventRoutes) -> list[Route]:
    return [_route("GET", "/events", gate.needs("read", events.events))]


def _list_routes(gate: Gate, jobs: ListRoute) -> list[Route]:
    return [_route("GET", "/list", gate.needs("read", jobs.list_jobs))]


def _record_routes(gate: Gate, records: RecordRoutes) -> list[Route]:
    return [
        _route("DELETE", "/jobs/{id}/record", gate.needs("admin", records.remove)),
        _route("GET", "/totals", gate.needs("read", records.totals)),
    ]


def _dead_letter_routes(gate: Gate, letters: DeadLetterRoutes) -> list[Route]:
    one, admin = "/deadletters/{event_id}", "admin"
    return [
        _route("GET", "/deadletters", gate.needs(admin, letters.list_letters)),
        _route("GET", one, gate.needs(admin, letters.show)),
        _route("POST", f"{one}/redrive", gate.needs(admin, letters.redrive)),
        _route("DELETE", one, gate.needs(admin, letters.drop)),
    ]


def _agent_routes(agents: AgentRoutes, reception: Reception) -> list[Route]:
    reports, claims = reception.reports, reception.claims
    return [
        _route("PUT", "/callback/{id}", counted(agents.callback, reports)),
        _route("GET", "/agent/agent.py", agents.agent_file),
        _route("GET", "/agent/builds/{sha256}", agents.agent_build),
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
