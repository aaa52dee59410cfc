"""The reaper's composition root."""

from functools import partial

from services.reaper import NAME, PUBLISHES, handlers
from services.reaper.cloud_calls import degraded
from services.reaper.config import ReaperConfig
from services.reaper.confirmations import Confirmations
from services.reaper.interruption_notices import Channel
from services.reaper.late_consoles import LateConsoles
from services.reaper.missed_launches import MISSED_SECONDS, MissedLaunches
from services.reaper.sweeps import InstanceSweeps
from shared.compute.port import Compute, Notices
from shared.events.events import AttemptEnded, InstanceLaunched, LaunchesReported
from shared.messaging.subscriber import Subscriber
from shared.runtime.service import Ports, Service, Sweep

PRUNE_INTERVAL_SECONDS = 600.0


def build(
    config: ReaperConfig, ports: Ports, compute: Compute, notices: Notices | None = None
) -> Service:
    """Build the reaper, ready to run. It does not close *compute*, which may be shared.

    *notices*: the cloud's own channel, if there is one.
    """
    instances = InstanceSweeps(config, ports, compute)
    confirming = Confirmations(instances)
    late = LateConsoles(config, ports, compute)
    missed = MissedLaunches(config, ports)
    receiving: tuple[Sweep, ...] = ()
    if notices is not None:
        channel = Channel(ports, notices, instances.calls.that_wait())
        receiving = (Sweep("receive_notices", channel.receive_notices, config.interval_seconds),)
    ends = ("terminate_ending",)
    return Service(
        NAME,
        ports,
        subscribers={
            InstanceLaunched: Subscriber(handlers.on_instance_launched, wakes=ends),
            AttemptEnded: Subscriber(handlers.on_attempt_ended, wakes=ends),
            LaunchesReported: Subscriber(handlers.on_launches_reported),
        },
        sweeps=(
            Sweep("terminate_ending", instances.terminate_ending, config.interval_seconds),
            Sweep("watch_instances", instances.watch_instances, config.watch_seconds),
            Sweep("confirm_missing", confirming.confirm_missing, config.ask_seconds),
            Sweep("report_missed_launches", missed.report_missed_launches, MISSED_SECONDS),
            Sweep("read_consoles", late.read_consoles, config.interval_seconds),
            *receiving,
            Sweep("prune_instances", instances.prune_instances, PRUNE_INTERVAL_SECONDS),
        ),
        publishes=PUBLISHES,
        keep_dead=config.keep_dead,
        degraded=partial(degraded, ports.clock),
    )
