"""The API's composition root."""

import asyncio
import functools
import random
from dataclasses import dataclass

from starlette.types import ASGIApp

from services.api import NAME, PUBLISHES
from services.api.agents.agent_file import read_agent_file
from services.api.agents.builds import RECORD_SECONDS, AgentBuilds
from services.api.agents.groups import AgentGroups
from services.api.agents.sweeps import CallerSweep, ProofSweep
from services.api.audit.sweeps import AuditSweep
from services.api.changes.feed import NUMBER_SECONDS, PRUNE_SECONDS, ChangeFeed
from services.api.changes.followers import MOST, Followers
from services.api.config import ApiConfig
from services.api.dead_letters.handlers import on_dead_letters_reported
from services.api.jobs.availability import record_seconds
from services.api.jobs.availability_sweeps import AvailabilitySweeps
from services.api.jobs.handlers import JobHandlers
from services.api.jobs.launch_faults import degraded
from services.api.jobs.launch_path import WATCH_SECONDS, LaunchPath
from services.api.jobs.overdue import ASK_SECONDS, Overdue
from services.api.jobs.reception import Reception
from services.api.jobs.retention_sweeps import RetentionSweep
from services.api.jobs.sweeps import Sweeps
from services.api.keys.access import Access
from services.api.keys.any_key import AnyKey
from services.api.keys.failures import SWEEP_SECONDS, Failures
from services.api.offers.handlers import on_offers_priced
from services.api.processes.siblings import Siblings
from services.api.quotas.handlers import on_quotas_reported
from services.api.submission.intake import Intake
from services.api.submission.sweeps import KeySweep
from services.api.web import Parts, make_app
from shared.events import events
from shared.events.readers import queues_of
from shared.messaging.subscriber import Subscriber
from shared.runtime.failures import as_one, failures_of
from shared.runtime.readiness import check
from shared.runtime.service import Ports, Service, Sweep

REMEMBER_CALLERS = "remember_callers"
"""The name of a sweep, which is woken in this process alone: each counts what it refuses."""


@dataclass(frozen=True)
class Api:
    """The API: the service, the loops that accept jobs and serve agents, and the HTTP app."""

    config: ApiConfig
    service: Service
    intake: Intake
    agents: AgentGroups
    followers: Followers
    app: ASGIApp

    async def run(self) -> None:
        """Run until drained; the caller runs the HTTP server."""
        service = asyncio.create_task(self.service.run(), name="api.service")
        loops = [
            asyncio.create_task(self.intake.run(), name="api.intake"),
            asyncio.create_task(self.agents.run(), name="api.agents"),
        ]
        try:
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
    db, wakeups = ports.db, ports.wakeups
    followers = Followers(wakeups, MOST // siblings.count)
    reception = Reception(ports.clock)
    launch_path = LaunchPath(functools.partial(check, db, ports.bus, queues_of(NAME, PUBLISHES)))
    feed = ChangeFeed(db, config.keep_changes)
    access = _access(config, ports, siblings)
    builds = AgentBuilds(db, read_agent_file())
    service = Service(
        NAME,
        ports,
        subscribers=_subscribers(JobHandlers(config.rules, random.random)),
        sweeps=(
            *_job_sweeps(config, ports, reception),
            Sweep("watch_launch_path", launch_path.watch, interval_seconds=WATCH_SECONDS),
            *_prune_sweeps(config, ports, feed),
            Sweep("number_changes", feed.number_changes, interval_seconds=NUMBER_SECONDS),
            Sweep(
                REMEMBER_CALLERS,
                CallerSweep(db, access.failures).remember_callers,
                interval_seconds=600,
                gather_seconds=SWEEP_SECONDS,
            ),
            Sweep("record_build", builds.record_build, interval_seconds=RECORD_SECONDS),
        ),
        publishes=PUBLISHES,
        keep_dead=config.keep_dead,
        degraded=degraded,
    )
    intake = Intake(db, config.rules, wakeups, ports.points, config.secret_keys, config.quotas)
    lifetime_seconds = config.rules.max_lifetime_seconds
    agents = AgentGroups(db, lifetime_seconds, wakeups, reception.arrivals)
    parts = Parts(
        service, intake, agents, reception, followers, feed, siblings, launch_path, builds, access
    )
    app = make_app(config, parts)
    return Api(config, service, intake, agents, followers, app)


def _access(config: ApiConfig, ports: Ports, siblings: Siblings) -> Access:
    any_key = AnyKey(ports.db)
    failures = Failures(
        config.http.failures,
        ports.clock.monotonic,
        siblings.failures,
        siblings.proven,
        any_key=any_key.exists,
        wake_sweep=ports.wakeups.event(REMEMBER_CALLERS).set,
    )
    return Access(ports.db, any_key, failures)


def _prune_sweeps(config: ApiConfig, ports: Ports, feed: ChangeFeed) -> tuple[Sweep, ...]:
    db, kept = ports.db, config.retention
    passes = {
        "prune_jobs": RetentionSweep(db, config.rules, kept).prune_jobs,
        "prune_keys": KeySweep(db).prune_keys,
        "prune_proofs": ProofSweep(db).prune_proofs,
        "prune_audit": AuditSweep(db, kept.audit_days).prune_audit,
    }
    return (
        *(Sweep(name, each, interval_seconds=3600) for name, each in passes.items()),
        Sweep("prune_changes", feed.prune_changes, interval_seconds=PRUNE_SECONDS),
    )


def _job_sweeps(config: ApiConfig, ports: Ports, reception: Reception) -> tuple[Sweep, ...]:
    db, rules = ports.db, config.rules

    def published() -> None:
        ports.wakeups.wake("relay_outbox")

    availability = AvailabilitySweeps(db, rules, reception)
    sweeps = Sweeps(
        db,
        rules,
        ports.points,
        reception.arrivals,
        wake=ports.wakeups.wake,
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


def _subscribers(handlers: JobHandlers) -> dict[type[events.Event], Subscriber]:
    on = handlers.on
    return {
        events.LaunchDelayed: Subscriber(on(handlers.on_launch_delayed)),
        events.LaunchRefused: Subscriber(on(handlers.on_launch_refused)),
        events.InstanceLaunched: Subscriber(
            on(handlers.on_instance_launched), wakes=("end_silent",)
        ),
        events.InstanceInterrupted: Subscriber(on(handlers.on_instance_interrupted)),
        events.InstanceUnconfirmed: Subscriber(on(handlers.on_instance_unconfirmed)),
        events.InstanceTerminated: Subscriber(on(handlers.on_instance_terminated)),
        events.DeadLettersReported: Subscriber(on_dead_letters_reported),
        events.OffersPriced: Subscriber(on_offers_priced),
        events.QuotasReported: Subscriber(on_quotas_reported),
    }
