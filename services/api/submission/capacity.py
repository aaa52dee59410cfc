"""What a job asks of its instance: `resources`, `capacity`, how long to wait for Spot.

Each is read from untrusted JSON; `BadWish` names the field and says what is right.
"""

import re
from typing import Any, get_args

from shared.events.events import Architecture, Capacity, Resources

CAPACITIES: tuple[str, ...] = get_args(Capacity)
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)
MAX_INSTANCE_TYPES = 40
MAX_TYPE_LENGTH = 64
MAX_WAIT_SECONDS = 30 * 86_400

MOST: dict[str, int] = {
    "vcpus": 1024,
    "memory_mib": 33_554_432,
    "gpus": 64,
    "disk_gib": 65_536,
}
"""The whole numbers of `resources`, and the most that is taken; EC2's largest types have less."""

GPU_ARCHITECTURE: Architecture = "x86_64"
"""EC2's one family with GPUs beside ARM processors (g5g) is left out: it would need an image of its
own, and what is built for GPUs hardly ever is for ARM."""

RESOURCE_FIELDS = (*MOST, "architecture", "instance_types")

INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_RIGHT = 'resources must be an object, like {"vcpus": 2, "memory_mib": 4096}'


class BadWish(Exception):
    """A wish for an instance cannot be taken. The message names the field."""


def read_resources(value: Any, default_architecture: Architecture = "x86_64") -> Resources:
    """`resources`: what an instance must have at least; absent is the deployment's default.

    *default_architecture* is what a job gets that names none.
    """
    if value is None:
        return Resources()
    if not isinstance(value, dict):
        raise BadWish(_RIGHT)
    for name in value:
        if name not in RESOURCE_FIELDS:
            known = ", ".join(RESOURCE_FIELDS)
            raise BadWish(f"unknown field resources.{name[:80]}: it takes {known}")
    resources = Resources(
        **{name: _whole(value.get(name), f"resources.{name}", most) for name, most in MOST.items()},
        architecture=_architecture(value.get("architecture")),
        instance_types=_instance_types(value.get("instance_types")),
    )
    if resources.instance_types and (resources.vcpus or resources.memory_mib or resources.gpus):
        raise BadWish(
            "resources.instance_types names the types: leave vcpus, memory_mib and gpus out, "
            "which choose them"
        )
    if resources.gpus:
        _check_gpus(resources.architecture, default_architecture)
    return resources


def _check_gpus(given: Architecture | None, default: Architecture) -> None:
    if (given or default) == GPU_ARCHITECTURE:
        return
    found = f"resources.architecture is {given}" if given else f"the deployment's is {default}"
    raise BadWish(
        f"resources.gpus goes with architecture {GPU_ARCHITECTURE} alone, and {found}: "
        f"set resources.architecture to {GPU_ARCHITECTURE}, or leave resources.gpus out"
    )


def read_capacity(value: Any, default: Capacity) -> Capacity:
    """`capacity`: where the instance is bought."""
    if value is None:
        return default
    for each in CAPACITIES:
        if value == each:
            return each  # type: ignore[return-value]  # one of the literal's own
    raise BadWish(f"capacity must be one of {', '.join(CAPACITIES)}")


def read_spot_wait(value: Any, capacity: Capacity) -> int | None:
    """`spot_wait_seconds`: how long Spot is tried before on-demand is bought, or it is given up.

    With `spot` the job then ends for *no_capacity*; left out, it waits for as long as it takes.
    """
    seconds = _whole(value, "spot_wait_seconds", MAX_WAIT_SECONDS, least=0)
    if seconds is not None and capacity == "on_demand":
        raise BadWish("spot_wait_seconds goes with Spot: leave it out with capacity on_demand")
    return seconds


def _whole(value: Any, name: str, most: int, least: int = 1) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadWish(f"{name} must be a whole number from {least} to {most}")
    return value


def _architecture(value: Any) -> Architecture | None:
    if value is None:
        return None
    for each in ARCHITECTURES:
        if value == each:
            return each  # type: ignore[return-value]  # one of the literal's own
    raise BadWish(f"resources.architecture must be one of {', '.join(ARCHITECTURES)}")


def _instance_types(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadWish('resources.instance_types must be an array, like ["m7g.medium"]')
    if len(value) > MAX_INSTANCE_TYPES:
        raise BadWish(f"resources.instance_types has more than {MAX_INSTANCE_TYPES} entries")
    for each in value:
        if len(each) > MAX_TYPE_LENGTH or not INSTANCE_TYPE.fullmatch(each):
            raise BadWish(f"resources.instance_types has {each[:80]!r}: write one like 'm7g.large'")
    return tuple(dict.fromkeys(value))
