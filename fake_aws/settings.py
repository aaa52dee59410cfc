"""The settings of the cloud: its speed, its limits, its throttling.

All durations are AWS's own, in seconds; the cloud's own actions (boot, visibility, the notice
before an interruption) take them divided by `speed`. Bills and timestamps are in real time.
"""

from typing import Literal

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    """The size of a token bucket, and its refill in tokens a second."""

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
    """Twelve digits; empty: random, so that two clouds of one process stay apart."""
    seed: int = 1
    """Of prices, of random delays, and of faults with a chance."""
    speed: float = 1.0
    host: str = "127.0.0.1"
    port: int = 0
    """0: a free port."""
    endpoint: str = ""
    """AWS's address for instances; empty: this process, as each reaches it."""

    access_key: str = ""
    secret_key: str = ""
    """The operator's; empty: random."""
    instance_role: str = ""
    """The name of a role that only EC2 may assume, created at the start, with its profile."""
    event_queue: str = ""
    """The name of an SQS queue, created at the start with a rule by which it gets every event."""

    boot: Boot = "none"
    """The kind of an instance; "auto" is a container where a Docker engine answers."""
    image: str = "python:3.13-slim"
    """The image of instances that are containers; it needs python3 and a shell."""
    network: str = "host"
    """The engine's network of instances that are containers."""
    address: str = ""
    """The address of this process for another network; empty: the network's gateway."""
    engine: bool = False
    """Whether instances use this machine's Docker engine; otherwise `docker` is simulated."""
    directory: str = ""
    """The directory of instances' files; empty: a temporary one, removed at the end."""

    pending_seconds: float = 8.0
    boot_seconds: float = 10.0
    """From running to the first line of the user data."""
    posted_seconds: float = 120.0
    """From the first line of the user data until EC2 posts the console so far, if it still runs."""
    console_posted_after_seconds: float = 120.0
    """From the end of an instance until EC2 posts its last console. AWS names no time; it takes
    minutes: canonical/pycloudlib#155, coreos/mantle#802."""
    shutting_down_seconds: float = 20.0
    stopping_seconds: float = 20.0
    shutdown_seconds: float = 3.0
    """From the machine's own `shutdown` until the cloud notices it."""
    visible_after_seconds: float = 5.0
    """The longest time that a launched instance stays invisible; each draws its own."""
    terminated_shown_seconds: float = 3600.0
    terminated_tags_seconds: float = 600.0
    """From an instance's end until EC2 no longer shows its tags, which are "gradually
    disassociated": https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-basics
    """
    cancelled_status_stays: bool = False
    """Whether a cancelled Spot request keeps its status, that its instance runs, after the end of
    the instance. AWS does not document it."""
    notice_seconds: float = 120.0
    respawn_seconds: float = 30.0
    """From a stop of an instance whose Spot request is persistent to its replacement."""

    throttle: bool = True
    request_buckets: dict[str, Bucket] = msgspec.field(default_factory=REQUEST_BUCKETS.copy)
    instance_buckets: dict[str, Bucket] = msgspec.field(default_factory=INSTANCE_BUCKETS.copy)
    verify_signatures: bool = True
    clock_ahead_seconds: float = 0.0
    """How far AWS's clock is ahead of this machine's: in signatures, and the header Date."""
    ec2_clock_error: Literal["AuthFailure", "RequestExpired"] = "AuthFailure"
    """EC2's code for a signature of another time; `RequestExpired` is the documented one."""
    knows_dry_run: bool = True
    """False: `DryRun` is ignored and the call made, as by some emulators."""
    enforce_policies: bool = True
    """Of IAM users and roles created here; the operator is allowed every call."""

    new_account_quotas: bool = False
    """Whether the account has a new account's quotas: 5 vCPUs of the standard families, else 0."""
    instance_metadata_tags: bool = False
    """Whether the account's default shows instances' tags in their metadata:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html"""
    spot_vcpus: int | None = None
    """Each quota of running Spot vCPUs, of every group of families; None: no limit."""
    on_demand_vcpus: int | None = None
    quota_ends_fleet: bool = True
    """Whether a fleet stops at the first pool whose quota is used up, or tries the other ones too.
    AWS does not document it."""
    larger_types_first: bool = False
    """Whether a fleet tries the types with more vCPUs first, as if these had more capacity. By
    `price-capacity-optimized` EC2 itself chooses, of pools whose size only it knows:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-allocation-strategy.html"""
    pool_size: int | None = None
    """The size of each pool (market, type, zone) in instances, unless set; None: no limit."""
    minimum_billed_seconds: float = 60.0
    free_if_interrupted_within_seconds: float = 3600.0
    spot_product: str = "Linux/UNIX"
    """The product of Spot prices; accounts of the time of EC2-Classic have the one of their VPC,
    "Linux/UNIX (Amazon VPC)"."""
    unlisted_types: tuple[str, ...] = ()
    """Types that the price list does not have, as new ones in some regions."""
    price_step_seconds: float = 900.0
    """The time between two changes of a Spot price."""
    fleet_token_outlives_instances: bool = False
    """CreateFleet's answer to a token whose instances are all terminated. False: as RunInstances,
    IdempotentInstanceTerminated; True: its first answer."""
    fleet_token_lists_instances: bool = True
    """CreateFleet's answer to a token that it knows. True: the first one's; False: without
    instances and errors. EC2 promises no further effect, and does not say what is listed."""
