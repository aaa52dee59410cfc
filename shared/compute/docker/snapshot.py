"""All that the engine shows of a deployment at one time: instances, jobs' containers, networks."""

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field

from shared.compute.docker.container import INSTANCE_ID, LABEL
from shared.compute.docker.engine import EngineApi
from shared.compute.docker.values import ListedContainer
from shared.compute.port import ComputeError

OVER = {"exited", "dead"}


@dataclass(frozen=True)
class Snapshot:
    """The containers of a deployment in one list of the engine, by instance id.

    The *networks* were listed before: an instance that one of them names and the containers do not
    show is gone, and not just about to come.
    """

    instances: dict[str, ListedContainer] = field(default_factory=dict)
    jobs: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    networks: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def is_over(self, instance_id: str) -> bool:
        """Return whether its agent cannot run any more."""
        return instance_id not in self.instances or self.instances[instance_id].state in OVER


async def take_snapshot(engine: EngineApi, deployment: str) -> Snapshot:
    """Ask the engine. Raises `Throttled` or `Unknown`; networks that it does not list are none."""
    seen = Snapshot()
    label = f"{LABEL}deployment={deployment}"
    with contextlib.suppress(ComputeError):  # a proxy in front of the engine may refuse the call
        for network in await engine.networks(label):
            instance_id = network.label(f"{LABEL}instance")
            if INSTANCE_ID.fullmatch(instance_id):
                seen.networks[instance_id].append(network.id)
    for each in await engine.containers(label):
        instance_id = each.label(f"{LABEL}instance")
        if not INSTANCE_ID.fullmatch(instance_id):
            continue  # the process adapter's, on the same engine
        if each.label(f"{LABEL}role") == "instance":
            seen.instances[instance_id] = each
        else:
            seen.jobs[instance_id].append(each.id)
    return seen
