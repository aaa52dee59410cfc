"""The reaper's composition root."""

from services.reaper import NAME, handlers
from services.reaper.config import ReaperConfig
from services.reaper.sweeps import Instances
from shared.compute.port import Compute
from shared.consumer import Recording, Subscriber
from shared.events import AttemptEnded, InstanceLaunched, LaunchesReported
from shared.runtime import Ports, Service, Sweep

PRUNE_INTERVAL_SECONDS = 600.0


def build(config: ReaperConfig, ports: Ports, compute: Compute) -> Service:
    """The reaper, ready to run. It does not close *compute*, which others may share."""
    instances = Instances(config, ports, compute)
    ends = ("terminate_ending",)
    return Service(
        NAME,
        ports,
        subscribers={
            InstanceLaunched: Recording(handlers.on_instance_launched, wakes=ends),
            AttemptEnded: Recording(handlers.on_attempt_ended, wakes=ends),
            LaunchesReported: Subscriber(handlers.on_launches_reported),
        },
        sweeps=(
            Sweep("terminate_ending", instances.terminate_ending, config.interval_seconds),
            Sweep("watch_instances", instances.watch_instances, config.watch_seconds),
            Sweep("prune_instances", instances.prune_instances, PRUNE_INTERVAL_SECONDS),
        ),
    )
