"""The parts of `OffersPriced`: what can be launched, at which price, and how it is chosen."""

from msgspec import Struct

from shared.events.costs import OtherTerms


class InstanceType(Struct, frozen=True, kw_only=True, rename={"name": "instance_type"}):
    """An instance type. `gpus` are whole ones of NVIDIA; `accelerated` is one with any device.

    `current`: new enough to be offered, by docker-job's own rule. `local_disks`: it has disks of
    its own, which are paid for; false in an event of an earlier release.
    """

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
    local_disks: bool = False


class OfferedType(InstanceType, frozen=True, kw_only=True, rename={"name": "instance_type"}):
    """An instance type with its prices an hour.

    A price is null where it is not known; 0 is free. A zone that is missing from
    `spot_hourly_prices_usd` does not offer the type on Spot.
    """

    on_demand_hourly_price_usd: float | None = None
    spot_hourly_prices_usd: dict[str, float | None] = {}


class OfferTerms(Struct, frozen=True, kw_only=True):
    """The launcher's choice among the types.

    `chooses`: a job gets types that have what it asks for, at most `most_types`; if false, each of
    them runs any job. `instance_types`, `vcpus`, `memory_mib` and `architecture` are the
    deployment's, for a job that does not say. `own_image`: instances boot an image of the
    operator's choice, which may run where the default one does not. `start_seconds` is the usual
    time from a launch to a running container, for as long as no job has shown it. `other` is absent
    in events of earlier releases. `listed_as_of` is the date of the built-in table, if the list
    prices are from there.
    """

    chooses: bool
    zones: tuple[str, ...]
    most_types: int = 1
    instance_types: tuple[str, ...] = ()
    vcpus: int = 1
    memory_mib: int = 1
    architecture: str = "x86_64"
    max_price_usd: float | None = None
    minimum_billed_seconds: int = 0
    start_seconds: float = 0.0
    other: OtherTerms | None = None
    listed_as_of: str | None = None
    own_image: bool = False
