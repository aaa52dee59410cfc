"""Ends of instances for which EC2 itself has the reason, before an agent could claim. Pure.

    quota, setup  the account or a setting is at fault: the job waits until that is mended
    aws           AWS is at fault
    capacity      EC2 had none for it after all: as an interruption, up to their limit

The first three are not the job's fault and count against no limit of it: another attempt follows
with a growing delay. They count for the pause of launches (`breaker.py`).
"""

from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from services.api.jobs.model import Attempt
from shared.events.events import InstanceTerminated

BY_ITSELF = "Client.InstanceInitiatedShutdown"
"""Its own system has shut it down: no reason of EC2, but a boot that failed."""

OPERATORS = frozenset(
    {"Client.UserInitiatedShutdown", "Client.UserInitiatedHibernate", "Client.InstanceTerminated"}
)
"""Somebody has ended it, the last by making an image of it."""


ACCOUNT = frozenset({"quota", "setup"})
"""Kinds of faults that every pool has, so that no other is better."""


class LaunchFault(NamedTuple):
    """The meaning of the codes that match *code*, a pattern of `fnmatch`."""

    code: str
    kind: Literal["quota", "setup", "aws", "capacity"]
    because: str
    change: str | None = None
    """What an operator can change."""


_KEY = "let the launcher's role and Spot's service-linked role use the KMS key of the volumes"
FAULTS = (
    LaunchFault(
        "Server.InsufficientInstanceCapacity", "capacity", "EC2 had no capacity for it after all"
    ),
    LaunchFault(
        "Client.VolumeLimitExceeded",
        "quota",
        "the account's limit of EBS volumes or of their storage is reached",
        "delete EBS volumes, or ask AWS for more: Service Quotas, Amazon EBS",
    ),
    LaunchFault(
        "Client.InvalidSnapshot.NotFound",
        "setup",
        "a snapshot of its image does not exist",
        "check DOCKER_JOB_EC2_IMAGE_ID: an image that has its snapshots; empty means the image "
        "that AWS recommends",
    ),
    LaunchFault(
        "Client.InternalError",
        "setup",
        "it could not be started; often the KMS key of its disk may not be used",
        _KEY,
    ),
    LaunchFault("Client.*KMS*", "setup", "the KMS key of its disk cannot be used", _KEY),
    LaunchFault("Server.*", "aws", "a fault of AWS"),
    LaunchFault(
        "Client.*",
        "setup",
        "EC2 did not start it",
        "look the code up in EC2's documents: account or a DOCKER_JOB_EC2_… setting is at fault",
    ),
)
"""The first that fits holds; the last two are for codes that no document has.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
"""


def code_of(fact: InstanceTerminated) -> str:
    """Return the code of an end; where EC2 shows no code, its text begins with one."""
    return fact.cause.partition(":")[0].strip()


def fault_of(attempt: Attempt, fact: InstanceTerminated) -> LaunchFault | None:
    """Return what EC2 names as the fault of an instance of which no agent has claimed."""
    if attempt.token_hash is not None or attempt.heartbeat_at is not None:
        return None
    code = code_of(fact)
    if code == BY_ITSELF or code in OPERATORS:
        return None
    return next((each for each in FAULTS if fnmatchcase(code, each.code)), None)
