"""The reaper's composition root."""

from services.reaper import NAME, handlers
from services.reaper.config import ReaperConfig
from services.reaper.interruption_notices import Channel
from services.reaper.sweeps import Instances
from shared.compute.port import Compute, Notices
from shared.events.events import AttemptEnded, InstanceLaunched, LaunchesReported
from shared.messaging.subscriber import Subscriber
from shared.runtime.service import Ports, Service, Sweep

PRUNE_INTERVAL_SECONDS = 600.0


def build(
    config: ReaperConfig, ports: Ports, compute: Compute, notices: Notices | None = None
) -> Service:
    """The reaper, ready to run. It does not close *compute*, which others may share.

    *notices*: the cloud's own channel, where there is one.
    """
    instances = Instances(config, ports, compute)
    listening: tuple[Sweep, ...] = ()
    if notices is not None:
        channel = Channel(ports, notices)
        listening = (Sweep("hear_notices", channel.hear_notices, config.interval_seconds),)
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
            *listening,
            Sweep("prune_instances", instances.prune_instances, PRUNE_INTERVAL_SECONDS),
        ),
    )
