"""The network of a job on a shared engine: its own, so that it reaches no other job.

Docker keeps its networks apart. The name of the bridge tells the host's packet filter whose
packets it sees: all of the jobs' networks begin with `dj`, and those that may not reach the
services of the host with `djk` (docs/reliability.md, Security).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from typing import Any

from .engine import docker
from .engine_api import EngineAnswer, EngineApi
from .environment import Config
from .errors import MAX_ERROR_CHARACTERS, CouldNotRunError, EngineError, EngineLostError
from .job import Settings
from .log import log

# Docker's own pools have some 30 networks in all, so each network names its subnet. The smallest
# that has a gateway, a container and room beside them.
SUBNET_BITS = 28
SUBNET_TRIES = 64
CREATE_SECONDS = 60.0  # sixty jobs that start together wait for one another's iptables rules

# The engine's words for a subnet that another network has: its address pool's, its bridge driver's
# and Podman's (https://github.com/moby/moby, libnetwork ipamapi and drivers/bridge).
TAKEN = ("overlap", "already used on the host")

# A program that starts as root and steps down needs none of these; what is left is what it takes
# to change the owner of files and the user.
DROPPED = ("NET_RAW", "MKNOD", "AUDIT_WRITE")

DRIVER_MTU = "com.docker.network.driver.mtu"


def job_name(instance_id: str) -> str:
    """Return the name of an instance's container and network, in docker's characters."""
    return "docker-job-" + re.sub(r"[^A-Za-z0-9_.-]", "-", instance_id)


def isolation(config: Config) -> dict[str, Any]:
    """Return what keeps a job on a shared engine from others, for the container's HostConfig."""
    if config.shared_engine is None:
        return {}
    return {"NetworkMode": job_name(config.instance_id), "CapDrop": list(DROPPED)}


def bridge_name(instance_id: str, *, host_services: bool) -> str:
    """Return the name of the network's bridge, of 15 characters at most (Linux's IFNAMSIZ)."""
    prefix = "dj" if host_services else "djk"
    return prefix + hashlib.sha256(instance_id.encode()).hexdigest()[:12]


def subnet_of(pool: str, instance_id: str, number: int) -> str:
    """Return the subnet for the *number*th try: as good as random, and repeatable.

    Raises ValueError for a pool that is none.
    """
    network = ipaddress.IPv4Network(pool)
    if network.prefixlen > SUBNET_BITS:
        raise ValueError(f"{pool} has no room for a /{SUBNET_BITS}")
    digest = hashlib.sha256(f"{instance_id} {number}".encode()).digest()
    index = int.from_bytes(digest[:8], "big") % 2 ** (SUBNET_BITS - network.prefixlen)
    address = network.network_address + index * 2 ** (32 - SUBNET_BITS)
    return f"{address}/{SUBNET_BITS}"


def remove_network(name: str) -> bool:
    """Remove the network; return False if it may still exist."""
    done = docker("network", "rm", name)
    return done.code == 0 or "not found" in done.error or "No such network" in done.error


class JobNetwork:
    """The network of one job. `remove` is thread-safe and repeatable."""

    def __init__(self, config: Config, settings: Settings) -> None:
        self._instance_id = config.instance_id
        self._pool = config.shared_engine.network_pool if config.shared_engine else ""
        self._bridge = bridge_name(config.instance_id, host_services=settings.host_services)
        self._name = job_name(config.instance_id)
        self._may_exist = False

    def create(self, labels: dict[str, str]) -> None:
        """Create it; raises CouldNotRunError with the engine's words, or EngineLostError."""
        self._may_exist = True
        try:
            with contextlib.closing(EngineApi()) as engine:
                made = self._create(engine, labels)
        except EngineError as error:
            raise EngineLostError(f"the job's network was not created: {error}") from None
        except ValueError as error:
            raise CouldNotRunError(f"the job's network was not created: {error}") from None
        if made.status != 201:
            message = made.message[-MAX_ERROR_CHARACTERS:]
            raise CouldNotRunError(f"the job's network was not created: {message}")

    def remove(self) -> None:
        """Remove it, if it was created."""
        if self._may_exist and not remove_network(self._name):
            log("network not removed", network=self._name)

    def _create(self, engine: EngineApi, labels: dict[str, str]) -> EngineAnswer:
        spec = self._spec(engine, labels)
        for number in range(SUBNET_TRIES):
            subnet = subnet_of(self._pool, self._instance_id, number)
            spec["IPAM"] = {"Driver": "default", "Config": [{"Subnet": subnet}]}
            made = engine.request("POST", "/networks/create", spec, CREATE_SECONDS)
            if not any(words in made.message for words in TAKEN):
                return made
        return made

    def _spec(self, engine: EngineApi, labels: dict[str, str]) -> dict[str, Any]:
        """Return the create call's body, without the subnet.

        https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Network/operation/NetworkCreate
        """
        options = {"com.docker.network.bridge.name": self._bridge}
        # The engine's setting for it holds for its first bridge alone: where packets must be
        # smaller (a VPN, some clouds), connections out of another network would hang.
        usual = engine.request("GET", "/networks/bridge").body
        found = (usual if isinstance(usual, dict) else {}).get("Options") or {}
        if found.get(DRIVER_MTU):
            options[DRIVER_MTU] = str(found[DRIVER_MTU])
        return {
            "Name": self._name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "EnableIPv6": False,
            "Labels": labels,
            "Options": options,
        }
