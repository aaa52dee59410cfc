"""The scheduler's composition root."""

from services.scheduler import NAME, PUBLISHES
from services.scheduler.config import SchedulerConfig
from services.scheduler.handlers import FIRE, TimerHandlers
from services.scheduler.sweeps import TimerSweeps
from shared.events.events import JobCancelled, JobScheduled
from shared.messaging.subscriber import Subscriber
from shared.runtime.service import Ports, Service, Sweep

PRUNE_INTERVAL_SECONDS = 600.0


def build(config: SchedulerConfig, ports: Ports) -> Service:
    """Build the scheduler, ready to run."""
    timers = TimerSweeps(config, ports)
    handlers = TimerHandlers(config.interval_seconds)
    return Service(
        NAME,
        ports,
        subscribers={
            JobScheduled: Subscriber(handlers.on_job_scheduled),
            JobCancelled: Subscriber(handlers.on_job_cancelled),
        },
        sweeps=(
            Sweep(FIRE, timers.fire_due, config.interval_seconds),
            Sweep("prune_timers", timers.prune_timers, PRUNE_INTERVAL_SECONDS),
        ),
        publishes=PUBLISHES,
        keep_dead=config.keep_dead,
    )
