"""The launcher's composition root."""

from services.launcher import NAME, PUBLISHES, handlers
from services.launcher.config import LauncherConfig
from services.launcher.pricing import PriceSweep
from services.launcher.quota_sweeps import QuotaSweeps, quota_sweeps
from services.launcher.sweeps import QUOTA_SWEEPS, LaunchSweeps
from services.launcher.troubles import TROUBLE_SECONDS, Troubles, degraded
from shared.compute.port import Compute, Prepared
from shared.events.events import (
    AttemptEnded,
    InstanceRequested,
    InstanceTerminated,
    JobCancelled,
    LaunchesMissed,
    LaunchesPaused,
    LaunchesResumed,
)
from shared.messaging.subscriber import Subscriber
from shared.runtime.service import Ports, Service, Sweep

PRUNE_INTERVAL_SECONDS = 600.0
PRICE_INTERVAL_SECONDS = 300.0
PREPARE_INTERVAL_SECONDS = 60.0


def build(config: LauncherConfig, ports: Ports, compute: Compute) -> Service:
    """Build the launcher, ready to run. It does not close *compute*, which may be shared."""
    launches = LaunchSweeps(config, ports, compute)
    prices = PriceSweep(config, ports, compute)
    troubles = Troubles(ports)
    count = config.gathered_lanes if compute.gathers else config.lanes
    lanes = tuple(f"launch_due_{number + 1}" for number in range(count))
    prepared = (
        (Sweep("prepare_machine", compute.prepare, PREPARE_INTERVAL_SECONDS),)
        if isinstance(compute, Prepared)
        else ()
    )
    return Service(
        NAME,
        ports,
        subscribers={
            InstanceRequested: Subscriber(handlers.on_instance_requested, wakes=lanes),
            JobCancelled: Subscriber(handlers.on_job_cancelled),
            AttemptEnded: Subscriber(handlers.on_attempt_ended),
            LaunchesMissed: Subscriber(handlers.on_launches_missed),
            LaunchesPaused: Subscriber(handlers.on_launches_paused, wakes=lanes),
            LaunchesResumed: Subscriber(handlers.on_launches_paused, wakes=lanes),
            InstanceTerminated: Subscriber(handlers.on_instance_terminated, wakes=QUOTA_SWEEPS),
        },
        sweeps=(
            # The same sweep several times: while one call is under way, another lane claims due
            # rows.
            *(Sweep(lane, launches.launch_due, config.interval_seconds) for lane in lanes),
            Sweep("report_launches", launches.report_launches, config.report_seconds),
            Sweep("publish_offers", prices.publish_offers, PRICE_INTERVAL_SECONDS),
            Sweep("report_troubles", troubles.report_troubles, TROUBLE_SECONDS),
            Sweep("prune_launches", launches.prune_launches, PRUNE_INTERVAL_SECONDS),
            *quota_sweeps(QuotaSweeps(config, ports, compute, lanes)),
            *prepared,
        ),
        publishes=PUBLISHES,
        keep_dead=config.keep_dead,
        degraded=degraded,
    )
