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
from services.api.agents.role_claims import RoleClaims
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
from services.api.http.routes.audit import AuditRoute
from services.api.http.routes.dead_letters import DeadLetterRoutes
from services.api.http.routes.description import DescriptionRoute
from services.api.http.routes.events import EventRoutes
from services.api.http.routes.health import HealthRoutes
from services.api.http.routes.instances import InstancesRoute
from services.api.http.routes.jobs import JobRoutes
from services.api.http.routes.keys import KeyRoutes
from services.api.http.routes.listing import ListRoute
from services.api.http.routes.logs import LogRoutes
from services.api.http.routes.plan import PlanRoutes
from services.api.http.routes.quotas import QuotasRoute
from services.api.http.routes.records import RecordRoutes
from services.api.http.routes.reruns import RerunRoute
from services.api.http.routes.stats import StatsRoute
from services.api.http.settings import HttpConfig
from services.api.jobs.breaker_store import paused
from services.api.jobs.launch_path import LaunchPath
from services.api.jobs.queries import JobService
from services.api.jobs.reception import Reception
from services.api.jobs.retention_sweeps import RecordService
from services.api.keys.access import Access
from services.api.keys.rates import AGENT_TIMES, RateLimit
from services.api.keys.service import KeyService
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
    access: Access


def make_app(config: ApiConfig, parts: Parts) -> ASGIApp:
    """Make the HTTP application of an API with these settings and parts."""
    ports, siblings, followers = parts.service.ports, parts.siblings, parts.followers
    db, trouble = ports.db, parts.launch_path.trouble
    job_service = JobService(db, config.rules, ports.wakeups, ports.points, trouble)
    bodies = Bodies(config.http.body, siblings.count)
    jobs = JobRoutes(config.http, config.bounds, db, parts.intake, job_service, bodies)
    reruns = Reruns(db, config.bounds, config.secret_keys)
    plans = PlanRoutes(db, config.rules, config.bounds, bodies)
    gate = _gate(config.http, parts)
    agents = _agents(config, parts, bodies)
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
            *_key_routes(gate, KeyRoutes(KeyService(db, parts.access), bodies), AuditRoute(db)),
            *_agent_routes(agents, parts.reception),
            *_health_routes(HealthRoutes(parts.service.look, functools.partial(paused, db))),
            *_description_routes(gate, DescriptionRoute(text(config.http, config.bounds).encode())),
        ],
        exception_handlers=ERROR_HANDLERS,
        hosts=config.http.hosts,
    )
    # Starlette would redirect `/list/` to `/list` at whatever host the request's Host names.
    app.router.redirect_slashes = False
    return app


def _gate(config: HttpConfig, parts: Parts) -> Gate:
    rate = _rate(config, parts, "an API key")
    open_rate = _rate(config, parts, "an address") if config.limits_open else None
    return Gate(parts.access, rate, open_rate, config.hosts, config.addresses)


def _rate(config: HttpConfig, parts: Parts, whose: str, times: int = 1) -> RateLimit:
    seconds, table = parts.service.ports.clock.monotonic, parts.siblings.callers
    return RateLimit(config.requests.times(times), whose, "REQUESTS", seconds, table)


def _agents(config: ApiConfig, parts: Parts, bodies: Bodies) -> AgentRoutes:
    ports, groups, jitter, access = parts.service.ports, parts.agents, random.random, parts.access
    db, points, failures, agents = ports.db, ports.points, access.failures, config.agents
    identity = None if agents.identity is None else StsIdentity(agents.identity, ports.clock)
    roles = None if identity is None else RoleClaims(identity, db, failures)
    admitted, rate = Admitted(ports.clock), _rate(config.http, parts, "an agent", AGENT_TIMES)
    return AgentRoutes(
        AgentService(agents, db, groups, admitted, points, jitter, failures, rate),
        ClaimService(agents, db, groups, admitted, points, jitter, roles, access, rate),
        bodies,
        parts.builds,
        config.http.addresses,
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
    return [
        _route("POST", "/jobs/{id}/rerun", gate.needs("submit", rerun.rerun, checks_project=True))
    ]


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


def _key_routes(gate: Gate, keys: KeyRoutes, audit: AuditRoute) -> list[Route]:
    admin = "admin"
    return [
        _route("GET", "/keys", gate.needs(admin, keys.list_keys)),
        _route("POST", "/keys", gate.needs(admin, keys.create)),
        _route("DELETE", "/keys/{prefix}", gate.needs(admin, keys.revoke)),
        _route("GET", "/audit", gate.needs(admin, audit.audit)),
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
