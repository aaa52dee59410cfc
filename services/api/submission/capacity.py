"""The bounds of `resources`, and the checks of resources and capacity together."""

import re
from typing import Annotated, ClassVar, get_args

import msgspec
from msgspec import Meta, Struct

from services.api.jobs.fields import whole
from services.api.submission.faults import check
from services.api.submission.json_body import BadRequest
from shared.events.requirements import Architecture, Capacity, Resources

GPU_ARCHITECTURE: Architecture = "x86_64"
"""EC2's one family with GPUs and ARM processors (g5g) is left out: it would need an image of its
own, and images for GPUs are hardly ever built for ARM."""

# A family's name is a series, a generation and options, of which the first names the processor:
# https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
# Names with a hyphen (u-6tb1, p6e-gb200) and Macs have their own ways.
_FAMILY = re.compile(r"(?!mac)[a-z]+[0-9]+([a-z]*)\.")

_InstanceType = Annotated[
    str,
    Meta(
        pattern=whole(r"[a-z][a-z0-9-]*\.[a-z0-9-]+"),
        max_length=64,
        extra={"wrong": "{path} has {value}: write one like 'm7g.large'"},
    ),
]


class ResourcesRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Minimum resources of an instance; gpus are NVIDIA's."""

    # As read, and in events, it is `Resources`. EC2's largest types have less than these limits.

    EXAMPLE: ClassVar = {"vcpus": 2, "memory_mib": 4096}

    vcpus: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="The least number; left out: the deployment's default."),
    ] = None
    memory_mib: Annotated[
        Annotated[int, Meta(ge=1, le=33_554_432)] | None,
        Meta(description="The least memory in MiB; left out: the deployment's default."),
    ] = None
    gpus: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(description="The least number; left out: the deployment's default."),
    ] = None
    disk_gib: Annotated[
        Annotated[int, Meta(ge=1, le=65_536)] | None,
        Meta(description="The smallest disk in GiB; left out: the deployment's default."),
    ] = None
    architecture: Annotated[
        Architecture | None,
        Meta(
            description="The processor's; left out: the deployment's. With gpus x86_64 only.",
            extra={"values": get_args(Architecture)},
        ),
    ] = None
    instance_types: Annotated[
        Annotated[list[_InstanceType], Meta(max_length=40, examples=[["m7g.medium", "m7g.large"]])]
        | None,
        Meta(
            description="The allowed types. Not with vcpus, memory_mib or gpus, which choose types."
        ),
    ] = None


def read_resources(value: object, default_architecture: Architecture) -> Resources:
    """Read `resources`. Raises `BadRequest`.

    *default_architecture* is that of jobs that name none.
    """
    read = check(value, ResourcesRequest, "resources")
    if read.instance_types and (read.vcpus or read.memory_mib or read.gpus):
        raise BadRequest(
            "resources.instance_types names the types: leave vcpus, memory_mib and gpus out, "
            "which choose them"
        )
    if read.instance_types and read.architecture:
        _check_types(read.instance_types, read.architecture)
    if read.gpus:
        _check_gpus(read.architecture, default_architecture)
    fields = msgspec.structs.asdict(read)
    fields["instance_types"] = tuple(dict.fromkeys(read.instance_types or ()))
    return Resources(**fields)


def _check_types(types: list[str], architecture: Architecture) -> None:
    """Refuse types none of which has *architecture*; the others are left out at the launch."""
    known = {_architecture_of(each) for each in types}
    if known <= {"x86_64", "arm64"} - {architecture}:
        raise BadRequest(
            f"resources.instance_types has no type for resources.architecture {architecture}: "
            f"{types[0]} is {known.pop()}; name others, or leave the architecture out"
        )


def _architecture_of(instance_type: str) -> Architecture | None:
    """Return what the name of a type tells, None if it tells nothing."""
    family = _FAMILY.match(instance_type)
    if family is None:
        return None
    arm = family[1].startswith("g") or instance_type.startswith("a1.")
    return "arm64" if arm else "x86_64"


def _check_gpus(given: Architecture | None, default: Architecture) -> None:
    if (given or default) == GPU_ARCHITECTURE:
        return
    found = f"resources.architecture is {given}" if given else f"the deployment's is {default}"
    raise BadRequest(
        f"resources.gpus goes with architecture {GPU_ARCHITECTURE} alone, and {found}: "
        f"set resources.architecture to {GPU_ARCHITECTURE}, or leave resources.gpus out"
    )


def check_spot_wait(seconds: int | None, capacity: Capacity) -> None:
    """Refuse `spot_wait_seconds` with on-demand capacity. Raises `BadRequest`."""
    if seconds is not None and capacity == "on_demand":
        raise BadRequest("spot_wait_seconds goes with Spot: leave it out with capacity on_demand")
