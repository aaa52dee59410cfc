"""The requirements of an attempt on its instance, as events carry them."""

from typing import Literal

from msgspec import Struct

Capacity = Literal["spot", "spot_then_on_demand", "on_demand"]

DEFAULT_PROJECT = "default"
"""The project of jobs and keys that name none, and of all of earlier releases."""

Architecture = Literal["x86_64", "arm64"]


class Resources(Struct, frozen=True, kw_only=True):
    """The minimum that an instance must have; None and empty mean the deployment's default."""

    vcpus: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    architecture: Architecture | None = None
    disk_gib: int | None = None
    instance_types: tuple[str, ...] = ()


class Requirements(Struct, frozen=True, kw_only=True):
    """The requirements of an attempt on its instance; scheduler and events pass them on unread.

    `spot_wait_seconds` is how long to wait for Spot: then `spot_then_on_demand` buys on demand
    (None: after the setting's time), `spot` gives up (None: never). `labels` is deprecated: empty,
    and ignored if an earlier release has published it, since a job's labels stay with the API.
    `tags` are those labels that the API's setting makes tags of the instance (`cost_tags.py`).
    `project` and `created_by` (the prefix of an API key; None: there was none) are whose job it is,
    for the quotas.
    """

    max_lifetime_seconds: int
    labels: dict[str, str] = {}
    tags: dict[str, str] = {}
    resources: Resources = Resources()
    capacity: Capacity = "spot"
    spot_wait_seconds: int | None = None
    project: str = DEFAULT_PROJECT
    created_by: str | None = None
