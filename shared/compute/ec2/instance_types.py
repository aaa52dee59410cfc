"""Instance types as EC2 describes them, and the choice for a job."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import Rejected
from shared.events.events import Market, Resources

MOST_TYPES = 20
"""So many types over a few zones find capacity, and stay below 300 overrides of a fleet."""

TIMES_VCPUS = 2
TIMES_MEMORY = 4
"""Types larger than this times the smallest are not offered: paid for and not used."""


GPU_MAKER = "NVIDIA"
"""Docker's `--gpus` supports these alone: https://docs.docker.com/engine/containers/gpu/"""

ACCELERATORS = (
    *("GpuInfo", "FpgaInfo", "InferenceAcceleratorInfo"),
    *("MediaAcceleratorInfo", "NeuronInfo"),
)
"""Of InstanceTypeInfo: devices that a job without GPUs would pay for in vain.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceTypeInfo.html
"""


class InstanceType(Struct, frozen=True, kw_only=True):
    """An instance type. `gpus` are whole ones of NVIDIA; `accelerated` is one with any device."""

    name: str
    vcpus: int
    memory_mib: int
    gpus: int
    architectures: tuple[str, ...]
    markets: tuple[str, ...]
    current: bool
    burstable: bool
    bare_metal: bool
    accelerated: bool = False


class Wanted(Struct, frozen=True, kw_only=True):
    """The resources of a job, with the deployment's defaults; or types by their names."""

    names: tuple[str, ...]
    vcpus: int
    memory_mib: int
    gpus: int
    architecture: str
    architecture_given: bool


def read_instance_type(shown: Mapping[str, Any]) -> InstanceType:
    """Read a type of DescribeInstanceTypes."""
    gpus = (shown.get("GpuInfo") or {}).get("Gpus") or []
    return InstanceType(
        name=shown["InstanceType"],
        vcpus=shown["VCpuInfo"]["DefaultVCpus"],
        memory_mib=shown["MemoryInfo"]["SizeInMiB"],
        gpus=sum(
            each.get("Count") or 0
            for each in gpus
            if (each.get("Manufacturer") or "").upper() == GPU_MAKER
        ),
        architectures=tuple(shown["ProcessorInfo"]["SupportedArchitectures"]),
        markets=tuple(shown["SupportedUsageClasses"]),
        current=bool(shown.get("CurrentGeneration")),
        burstable=bool(shown.get("BurstablePerformanceSupported")),
        bare_metal=bool(shown.get("BareMetal")),
        accelerated=any(shown.get(each) for each in ACCELERATORS),
    )


def wanted_by(resources: Resources, settings: Ec2Settings) -> Wanted:
    """Complete *resources* with the deployment's defaults.

    A job that names types gets one of them; one that names sizes gets what has them; one that
    names nothing gets the deployment's types, or what has the deployment's sizes.
    """
    sizes = (resources.vcpus, resources.memory_mib, resources.gpus, resources.architecture)
    names = resources.instance_types
    if not names and not any(sizes):
        names = settings.instance_types
    return Wanted(
        names=names,
        vcpus=resources.vcpus or (1 if resources.memory_mib else settings.vcpus),
        memory_mib=resources.memory_mib or (1 if resources.vcpus else settings.memory_mib),
        gpus=resources.gpus or 0,
        architecture=resources.architecture or settings.architecture,
        architecture_given=resources.architecture is not None,
    )


def choose(
    types: Mapping[str, InstanceType], wanted: Wanted, market: Market, most: int = MOST_TYPES
) -> list[InstanceType]:
    """Choose the types that fit, the smallest first. Raises `Rejected` if none exists."""
    if wanted.names:
        return _named(types, wanted)
    if wanted.gpus and wanted.architecture != "x86_64":
        raise Rejected(f"GPUs go with x86_64 alone, and the architecture is {wanted.architecture}")
    fitting = sorted(
        (each for each in types.values() if _fits(each, wanted, market)),
        key=lambda each: (each.gpus, each.vcpus, each.memory_mib, each.name),
    )
    if not fitting:
        raise Rejected(
            f"no instance type has {wanted.vcpus} vCPUs, {wanted.memory_mib} MiB of memory and "
            f"{wanted.gpus} GPUs for {wanted.architecture}"
        )
    return _near(fitting)[:most]


def _near(fitting: list[InstanceType]) -> list[InstanceType]:
    least_vcpus = min(each.vcpus for each in fitting)
    least_memory = min(each.memory_mib for each in fitting)
    return [
        each
        for each in fitting
        if each.vcpus <= TIMES_VCPUS * least_vcpus
        and each.memory_mib <= TIMES_MEMORY * least_memory
    ] or fitting[:1]


def _fits(kind: InstanceType, wanted: Wanted, market: Market) -> bool:
    return (
        kind.current
        and not kind.burstable  # slow once its credits are used up, or paid for extra
        and not kind.bare_metal  # minutes to boot
        and market in kind.markets
        and wanted.architecture in kind.architectures
        and kind.vcpus >= wanted.vcpus
        and kind.memory_mib >= wanted.memory_mib
        and _has_gpus(kind, wanted)
    )


def _has_gpus(kind: InstanceType, wanted: Wanted) -> bool:
    if wanted.gpus:
        return kind.gpus >= wanted.gpus
    return kind.gpus == 0 and not kind.accelerated


def _named(types: Mapping[str, InstanceType], wanted: Wanted) -> list[InstanceType]:
    """Choose the named ones, all of one architecture, since they boot one image."""
    unknown = [each for each in wanted.names if each not in types]
    if unknown:
        raise Rejected(f"unknown instance types: {', '.join(unknown)}")
    named = [types[each] for each in wanted.names]
    architecture = wanted.architecture
    if not wanted.architecture_given and not _of(named, architecture):
        architecture = named[0].architectures[-1]  # "i386, x86_64" of some old ones
    chosen = _of(named, architecture)
    if not chosen:
        raise Rejected(f"none of {', '.join(wanted.names)} is {architecture}")
    return chosen


def _of(types: Iterable[InstanceType], architecture: str) -> list[InstanceType]:
    return [each for each in types if architecture in each.architectures]


def architecture_of(chosen: list[InstanceType], wanted: Wanted) -> str:
    """Return the architecture of the image that all of *chosen* boot."""
    first = chosen[0].architectures
    return wanted.architecture if wanted.architecture in first else first[-1]
