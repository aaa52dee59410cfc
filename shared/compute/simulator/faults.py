"""The virtual cloud's capacity and faults: every parameter of `sim://?seed=7&…`.

Chances are between 0 and 1 and drawn from the seed; by default there are no faults and no delays.
"""

from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import msgspec

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a virtual cloud; each may be in its URL."""

    seed: int = 0
    capacity: Count | None = None
    """Instances that each pool can hold; None: no limit."""
    quota: Count | None = None
    """Instances that the account may hold at once; None: no limit."""
    no_capacity: Chance = 0.0
    """Chance, at each launch, that the cheapest pool runs dry…"""
    dry_seconds: Seconds = 60.0
    """…and for how long it stays so."""
    throttled: Chance = 0.0
    """Chance that a call is throttled."""
    unknown_after_effect: Chance = 0.0
    """Chance that a launch takes effect and its answer is lost."""
    invisible_seconds: Seconds = 0.0
    """Time after its launch in which an instance is not shown, and terminate has no effect."""
    boot_seconds: Seconds = 0.0
    pull_seconds: Seconds = 0.0
    stop_seconds: Seconds = 0.0
    """Time in STOPPING after terminate; the container is stopped at its end."""
    terminate_ignored: Chance = 0.0
    """Chance, for each instance named, that terminate is accepted and has no effect."""
    interrupted: Chance = 0.0
    """Chance that an instance is interrupted…"""
    interrupted_within_seconds: Seconds = 60.0
    """…within so many seconds after its launch…"""
    notice_seconds: Seconds = 120.0
    """…and its notice comes so long before the end."""
    agent_death: Chance = 0.0
    """Chance that an agent dies on a living instance, with the container going on…"""
    agent_death_within_seconds: Seconds = 60.0
    """…within so many seconds after its launch."""


class SimulatedPool(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity of one instance type in one zone, at one price an hour."""

    instance_type: str
    zone: str
    hourly_price_usd: float
    capacity: int | None = None
    vcpus: int = 2
    memory_mib: int = 8192


# Rounded from public Spot prices of mid 2025, us-east-1, Linux: only their order matters here.
DEFAULT_POOLS = tuple(
    SimulatedPool(
        instance_type=instance_type,
        zone=zone,
        hourly_price_usd=round(price * factor, 5),
        memory_mib=memory_mib,
    )
    for instance_type, price, memory_mib in (
        *(("t3.micro", 0.0035, 1024), ("t3.small", 0.0070, 2048)),
        ("m6i.large", 0.0380, 8192),
    )
    for zone, factor in (("sim-1a", 1.0), ("sim-1b", 1.1), ("sim-1c", 1.2))
)


def faults_of(url: str) -> Faults:
    """Read the parameters of a `sim://?…` URL. Raises ValueError that names a wrong one."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=False)
    try:
        return msgspec.convert(dict(pairs), Faults, strict=False)
    except msgspec.ValidationError as error:
        message = f"compute URL {url!r}: {error}"
        raise ValueError(message) from error
