"""The parts of an instance's cost: itself, its public IPv4 address, its volume. In USD."""

from msgspec import Struct


class OtherPrices(Struct, frozen=True, kw_only=True):
    """The prices an hour of what an instance has beside itself.

    Null is not known; 0 is what it does not have, or what is free.
    """

    public_ipv4_hourly_usd: float | None = None
    volume_hourly_usd: float | None = None


UNKNOWN_PRICES = OtherPrices()

NOTHING_ELSE = OtherPrices(public_ipv4_hourly_usd=0.0, volume_hourly_usd=0.0)
"""Of an instance that costs nothing beside itself."""


class CostLines(Struct, frozen=True, kw_only=True):
    """The cost of an instance in lines, which add up to its cost. Null is not known."""

    instance_usd: float | None = None
    public_ipv4_usd: float | None = None
    volume_usd: float | None = None


class OtherTerms(Struct, frozen=True, kw_only=True):
    """The prices of what each instance gets beside itself.

    `public_ipv4_hourly_usd` is by zone: a zone that is missing assigns no address. `disk_gib` is
    the volume of a job that does not say; `gpu_disk_gib` is the same on types with GPUs, and 0 in
    events of earlier releases, which publish `disk_gib` for all.
    """

    public_ipv4_hourly_usd: dict[str, float | None] = {}
    volume_gib_hourly_usd: float | None = None
    disk_gib: int = 0
    gpu_disk_gib: int = 0
