"""What this cloud is like: its clock's haste, its limits, and how it treats who asks too much.

All durations are AWS's own, in seconds; the cloud's own doings (booting, showing, the notice before
an interruption) take them divided by `speed`. What is billed, and every time told, is real time.
"""

from typing import Literal

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    """A token bucket: how much it holds, and how many tokens a second it gets back."""

    size: float
    per_second: float


# https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html; a name that ends in * is
# a prefix. The first that fits counts; each action has a bucket of its own.
REQUEST_BUCKETS: dict[str, Bucket] = {
    "RunInstances": Bucket(5, 2),
    "StartInstances": Bucket(5, 2),
    "TerminateInstances": Bucket(100, 5),
    "CreateTags": Bucket(100, 10),
    "Describe*": Bucket(100, 20),
    "Get*": Bucket(100, 20),
    "*": Bucket(50, 5),
}
# Tokens for instances, not calls. A fleet launches as RunInstances does.
INSTANCE_BUCKETS: dict[str, Bucket] = {
    "RunInstances": Bucket(1000, 2),
    "TerminateInstances": Bucket(1000, 20),
}

Boot = Literal["none", "process", "container", "auto"]


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One cloud: an account in one region."""

    region: str = "us-east-1"
    account: str = ""
    """Twelve digits; empty: drawn, so that two clouds of one process do not meet."""
    seed: int = 1
    """Of prices, of delays between none and the longest, and of faults given as a chance."""
    speed: float = 1.0
    host: str = "127.0.0.1"
    port: int = 0
    """0: a free one."""
    endpoint: str = ""
    """The address that instances are told is AWS's; empty: this process, as each reaches it."""

    access_key: str = ""
    secret_key: str = ""
    """The operator's; empty: drawn."""
    instance_role: str = ""
    """A role that EC2 alone may take on, with a profile of that name, is there from the start."""
    event_queue: str = ""
    """An SQS queue of this name is there from the start, and gets every event."""

    boot: Boot = "none"
    """What runs the user data; "auto" is a container where a Docker engine answers."""
    image: str = "python:3.13-slim"
    """Of instances that are containers; it needs python3 and a shell."""
    network: str = "host"
    """The engine's network of instances that are containers."""
    address: str = ""
    """Where instances on another network reach this process; empty: at the network's gateway."""
    engine: bool = False
    """Whether instances get the machine's own Docker engine; otherwise `docker` is played."""
    directory: str = ""
    """Where instances keep their files; empty: a temporary one, removed at the end."""

    pending_seconds: float = 8.0
    boot_seconds: float = 10.0
    """From running to the first line of the user data."""
    shutting_down_seconds: float = 20.0
    stopping_seconds: float = 20.0
    shutdown_seconds: float = 3.0
    """From the machine's own `shutdown` to the cloud's noticing it."""
    visible_after_seconds: float = 5.0
    """At most so long after its launch an instance is not shown: each one draws its own."""
    terminated_shown_seconds: float = 3600.0
    notice_seconds: float = 120.0
    respawn_seconds: float = 30.0
    """From a stop of an instance whose Spot request is persistent to its replacement."""

    throttle: bool = True
    request_buckets: dict[str, Bucket] = msgspec.field(default_factory=REQUEST_BUCKETS.copy)
    instance_buckets: dict[str, Bucket] = msgspec.field(default_factory=INSTANCE_BUCKETS.copy)
    verify_signatures: bool = True
    enforce_policies: bool = True
    """Of IAM users and roles that were made here; the operator may do all."""

    spot_vcpus: int | None = None
    """The account's quota of running Spot vCPUs (a new account has 5); None: no limit."""
    on_demand_vcpus: int | None = None
    pool_size: int | None = None
    """Instances that each pool (market, type, zone) has room for, unless set; None: no limit."""
    minimum_billed_seconds: float = 60.0
    free_if_interrupted_within_seconds: float = 3600.0
    price_step_seconds: float = 900.0
    """How long a Spot price holds."""
    fleet_token_outlives_instances: bool = False
    """What CreateFleet answers to a token whose instances are all terminated: False, as
    RunInstances, IdempotentInstanceTerminated; True, its first answer."""
