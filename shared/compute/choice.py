"""The choice of instance types for a job: one rule for the launch and for the plan of a job.

Pure: the launcher's adapter chooses among the types that the cloud describes, the API among those
that the launcher has published.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from shared.compute.port import Rejected
from shared.events.events import Market
from shared.events.offers import InstanceType
from shared.events.requirements import Resources

T = TypeVar("T", bound=InstanceType)

MOST_TYPES = 20
"""So many types over a few zones find capacity, and stay below 300 overrides of a fleet."""

MOST_OVERRIDES = 300
"""Of one fleet: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/fleet-quotas.html"""

TIMES_VCPUS = 2
TIMES_MEMORY = 4
"""Types larger than this times the smallest are not offered: paid for and not used."""


class NotSold(Rejected):
    """No type that a job names is sold on this *market*."""

    def __init__(self, message: str, market: Market) -> None:
        super().__init__(message)
        self.market = market


class SizeDefaults(Protocol):
    """The deployment's choice for a job that does not say."""

    @property
    def instance_types(self) -> tuple[str, ...]: ...

    @property
    def vcpus(self) -> int: ...

    @property
    def memory_mib(self) -> int: ...

    @property
    def architecture(self) -> str: ...

    @property
    def own_image(self) -> bool: ...


class Wanted(Struct, frozen=True, kw_only=True):
    """The resources of a job, with the deployment's defaults; or types by their names."""

    names: tuple[str, ...]
    vcpus: int
    memory_mib: int
    gpus: int
    architecture: str
    architecture_given: bool
    own_image: bool = False
    most_vcpus: int | None = None


def most_types(zones: int) -> int:
    """Return how many types a call may name in each of so many *zones*."""
    return min(MOST_TYPES, MOST_OVERRIDES // max(1, zones))


def wanted_by(resources: Resources, defaults: SizeDefaults) -> Wanted:
    """Complete *resources* with the deployment's defaults.

    A job that names types gets one of them; one that names sizes gets what has them; one that
    names nothing gets the deployment's types, or what has the deployment's sizes.
    """
    sizes = (resources.vcpus, resources.memory_mib, resources.gpus, resources.architecture)
    names = resources.instance_types
    if not names and not any(sizes):
        names = defaults.instance_types
    return Wanted(
        names=names,
        vcpus=resources.vcpus or (1 if resources.memory_mib else defaults.vcpus),
        memory_mib=resources.memory_mib or (1 if resources.vcpus else defaults.memory_mib),
        gpus=resources.gpus or 0,
        architecture=resources.architecture or defaults.architecture,
        architecture_given=resources.architecture is not None,
        own_image=defaults.own_image,
    )


def choose(
    types: Mapping[str, T], wanted: Wanted, market: Market, most: int = MOST_TYPES
) -> list[T]:
    """Choose the types that fit, the smallest first. Raises `Rejected` if none exists.

    Those above `most_vcpus` only if all are.
    """
    if wanted.names:
        return _small_enough(_sold(_named(types, wanted), market), wanted)
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
    return _small_enough(_near(fitting), wanted)[:most]


def _small_enough(fitting: list[T], wanted: Wanted) -> list[T]:
    if wanted.most_vcpus is None:
        return fitting
    return [each for each in fitting if each.vcpus <= wanted.most_vcpus] or fitting


def _near(fitting: list[T]) -> list[T]:
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
    return kind.gpus == 0 and not kind.accelerated and not kind.local_disks  # paid for, unused


def _named(types: Mapping[str, T], wanted: Wanted) -> list[T]:
    """Choose the named ones, all of one architecture, without those that cannot boot."""
    unknown = [each for each in wanted.names if each not in types]
    if unknown:
        raise Rejected(f"unknown instance types: {', '.join(unknown)}")
    named = [types[each] for each in wanted.names]
    named = [each for each in named if _boots(each, wanted)]
    if not named:
        raise Rejected(
            f"the image of docker-job does not run on {', '.join(wanted.names)} (macOS needs a "
            "dedicated host, Amazon Linux 2023 a Graviton2 or newer, and NVIDIA's driver x86_64): "
            "name other instance types"
        )
    architecture = wanted.architecture
    if not wanted.architecture_given and not _of(named, architecture):
        architecture = named[0].architectures[-1]  # "i386, x86_64" of some old ones
    chosen = _of(named, architecture)
    if not chosen:
        raise Rejected(f"none of {', '.join(wanted.names)} is {architecture}")
    return chosen


def _sold(named: list[T], market: Market) -> list[T]:
    """Return those of *named* that *market* has. An emulator may show no market of a type."""
    sold = [each for each in named if market in each.markets or not each.markets]
    if not sold:
        names = ", ".join(each.name for each in named)
        on_spot = market == "spot"
        where, other = ("on Spot", "on_demand") if on_spot else ("on demand", "spot")
        text = f"not sold {where}: {names}; name other types, or `capacity`: `{other}`"
        raise NotSold(text, market)
    return sold


def _boots(kind: InstanceType, wanted: Wanted) -> bool:
    """Return whether the image runs on this type.

    AL2023 needs ARMv8.2, which a1 has not:
    https://docs.aws.amazon.com/linux/al2023/ug/system-requirements.html. AWS's image for GPUs is of
    x86_64 alone; the one of arm64 has no driver, and leaves the GPUs of g5g unused:
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html
    """
    if all(each.endswith("_mac") for each in kind.architectures):
        return False
    if wanted.own_image:
        return True
    return not kind.name.startswith("a1.") and (not kind.gpus or "x86_64" in kind.architectures)


def _of(types: Iterable[T], architecture: str) -> list[T]:
    return [each for each in types if architecture in each.architectures]


def architecture_of(chosen: Sequence[InstanceType], wanted: Wanted) -> str:
    """Return the architecture of the image that all of *chosen* boot."""
    first = chosen[0].architectures
    return wanted.architecture if wanted.architecture in first else first[-1]
