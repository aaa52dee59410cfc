"""The settings of an engine that jobs share, and how an agent gets them.

With docker:// and process:// the containers of all jobs are on one engine, beside those of its
owner. On EC2 each job has a machine of its own, and none of this applies.
"""

import ipaddress
from typing import get_args

import msgspec
from msgspec import Struct

from shared.compute.packet_filter import Mode
from shared.settings import BadSetting, Settings

LARGEST_POOL, SMALLEST_POOL = 8, 26
"""Prefix lengths: a job's network is a /28."""


class SharedEngine(Struct, frozen=True, kw_only=True):
    """The settings of all jobs on one engine."""

    network_pool: str = "10.213.0.0/16"
    """The subnets of the jobs' networks come from here: 16 addresses each, 4,096 jobs at once."""

    packet_filter: Mode = "try"
    images_disk_percent: float = 85
    """If the engine's disk is so full, images that jobs brought are removed…"""
    images_keep_hours: float = 24
    """…if no job has used them for this long."""

    def environment(self) -> dict[str, str]:
        """Return the variables of an agent on this engine."""
        return {
            "DOCKER_JOB_NETWORK_POOL": self.network_pool,
            "DOCKER_JOB_IMAGES_DISK_PERCENT": f"{self.images_disk_percent:g}",
            "DOCKER_JOB_IMAGES_KEEP_HOURS": f"{self.images_keep_hours:g}",
        }


def shared_engine_from(settings: Settings) -> SharedEngine:
    """Read the settings. Raises `BadSetting`."""
    defaults = SharedEngine()
    mode = settings.choice("PACKET_FILTER", defaults.packet_filter, get_args(Mode))
    return SharedEngine(
        network_pool=_pool(settings.text("NETWORK_POOL", defaults.network_pool)),
        packet_filter=msgspec.convert(mode, Mode),
        images_disk_percent=settings.number(
            "IMAGES_DISK_PERCENT", defaults.images_disk_percent, most=100
        ),
        images_keep_hours=settings.number("IMAGES_KEEP_HOURS", defaults.images_keep_hours),
    )


def _pool(given: str) -> str:
    try:
        pool = ipaddress.IPv4Network(given)
    except ValueError as error:
        message = f"DOCKER_JOB_NETWORK_POOL is {given!r}: it must be like 10.213.0.0/16 ({error})"
        raise BadSetting(message) from None
    if not LARGEST_POOL <= pool.prefixlen <= SMALLEST_POOL:
        raise BadSetting(
            f"DOCKER_JOB_NETWORK_POOL is {given!r}: it must have a prefix length "
            f"from {LARGEST_POOL} to {SMALLEST_POOL}"
        )
    return str(pool)
