"""Instance types: what EC2 tells of each, and which will do for a job."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import Rejected
from shared.events.events import Market, Resources

MOST_TYPES = 20
"""A fleet with so many types over a few zones finds capacity, and stays below 300 overrides."""

TIMES_VCPUS = 2
TIMES_MEMORY = 4
"""What is so much larger than wanted is not offered: it would be paid for and not used."""


GPU_MAKER = "NVIDIA"
"""Docker's `--gpus` is for these alone: https://docs.docker.com/engine/containers/gpu/"""

ACCELERATORS = (
    *("GpuInfo", "FpgaInfo", "InferenceAcceleratorInfo"),
    *("MediaAcceleratorInfo", "NeuronInfo"),
)
"""Of InstanceTypeInfo: what a job would pay for that has asked for none.
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
    """What a job wants, with the deployment's defaults in the gaps; or types by their names."""

    names: tuple[str, ...]
    vcpus: int
    memory_mib: int
    gpus: int
    architecture: str
    architecture_given: bool


def read_machine(shown: Mapping[str, Any]) -> InstanceType:
    """A type as DescribeInstanceTypes shows it."""
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
    """What *resources* come to in this deployment.

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
    machines: Mapping[str, InstanceType], wanted: Wanted, market: Market, most: int = MOST_TYPES
) -> list[InstanceType]:
    """The types that will do, the smallest first. Raises `Rejected` where none will ever."""
    if wanted.names:
        return _named(machines, wanted)
    if wanted.gpus and wanted.architecture != "x86_64":
        raise Rejected(f"GPUs go with x86_64 alone, and the architecture is {wanted.architecture}")
    fitting = sorted(
        (each for each in machines.values() if _fits(each, wanted, market)),
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


def _fits(machine: InstanceType, wanted: Wanted, market: Market) -> bool:
    return (
        machine.current
        and not machine.burstable  # slow once its credits are used up, or paid for extra
        and not machine.bare_metal  # minutes to boot
        and market in machine.markets
        and wanted.architecture in machine.architectures
        and machine.vcpus >= wanted.vcpus
        and machine.memory_mib >= wanted.memory_mib
        and _has_gpus(machine, wanted)
    )


def _has_gpus(machine: InstanceType, wanted: Wanted) -> bool:
    if wanted.gpus:
        return machine.gpus >= wanted.gpus
    return machine.gpus == 0 and not machine.accelerated


def _named(machines: Mapping[str, InstanceType], wanted: Wanted) -> list[InstanceType]:
    """The named ones, all of one architecture, since they boot one image."""
    unknown = [each for each in wanted.names if each not in machines]
    if unknown:
        raise Rejected(f"unknown instance types: {', '.join(unknown)}")
    named = [machines[each] for each in wanted.names]
    architecture = wanted.architecture
    if not wanted.architecture_given and not _of(named, architecture):
        architecture = named[0].architectures[-1]  # "i386, x86_64" of some old ones
    chosen = _of(named, architecture)
    if not chosen:
        raise Rejected(f"none of {', '.join(wanted.names)} is {architecture}")
    return chosen


def _of(machines: Iterable[InstanceType], architecture: str) -> list[InstanceType]:
    return [each for each in machines if architecture in each.architectures]


def architecture_of(chosen: list[InstanceType], wanted: Wanted) -> str:
    """The architecture of the image that all of *chosen* boot."""
    first = chosen[0].architectures
    return wanted.architecture if wanted.architecture in first else first[-1]
