"""The table of AWS's error codes: what each means for a launch, and what an operator can change.

AWS spells one error in several ways (`InvalidLaunchTemplateId.NotFound`,
`InvalidLaunchTemplateName.NotFoundException`), so a rule has patterns; the first rule that fits
holds. `errors.py` explains the kinds. Sources:

- the codes: https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html
- which of a fleet's codes mean capacity: `pkg/errors/errors.go` of aws/karpenter-provider-aws
- `AuthFailure.ServiceLinkedRoleCreationNotPermitted` in a fleet's answer:
  https://github.com/terraform-aws-modules/terraform-aws-eks/issues/2565
"""

from typing import NamedTuple

from shared.compute.port import (
    ComputeError,
    Misconfigured,
    NoCapacity,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)


class Rule(NamedTuple):
    """The meaning of the codes that match one of *codes*, with *words* in the message."""

    kind: type[ComputeError]
    codes: tuple[str, ...]
    """Patterns of `fnmatch`; `Client.` and `Server.` before a code are left out."""
    change: str = ""
    """What an operator can change, for `Misconfigured`."""
    words: tuple[str, ...] = ()
    """Any of them, in lower case. Empty: whatever the message."""


IMAGE = (
    "check DOCKER_JOB_EC2_IMAGE_ID: an image that is available in this region and that this "
    "account may launch; empty means the image that AWS recommends"
)
SUBNETS = "check DOCKER_JOB_EC2_SUBNETS: subnets of this region, in one VPC with the groups"
GROUPS = "check DOCKER_JOB_EC2_SECURITY_GROUPS: groups of the subnets' VPC"
PROFILE = (
    "check DOCKER_JOB_EC2_INSTANCE_PROFILE: a profile that exists and has a role; a new one is "
    "visible to EC2 after some seconds"
)
KEY_NAME = "check DOCKER_JOB_EC2_KEY_NAME: a key pair of this region"
PRICE = "check DOCKER_JOB_EC2_MAX_PRICE_USD: more than 0.001, or empty"
PERMISSION = (
    "allow it, as docs/iam/launcher.json does, or docs/iam/reaper.json for the reaper; a boundary, "
    "a service control policy or the policy of a KMS key can forbid it too"
)
CREDENTIALS = "check the credentials of the launcher (AWS_PROFILE, AWS_ACCESS_KEY_ID, its role)"
SPOT_ROLE = (
    "create Spot's service-linked role once: "
    "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
)
ACCOUNT = "wait until AWS has verified or activated the account, or ask AWS Support"
PARAMETERS = (
    "the message names the parameter: check the DOCKER_JOB_EC2_… setting that it comes from; "
    "if there is none, report the message to docker-job"
)
ENDPOINT = "check AWS_REGION, AWS_ENDPOINT_URL and the region in DOCKER_JOB_COMPUTE_URL"
TYPES = (
    "check DOCKER_JOB_EC2_INSTANCE_TYPES, _VCPUS, _MEMORY_MIB and _ARCHITECTURE, and that the "
    "zones of DOCKER_JOB_EC2_SUBNETS have such types"
)
QUEUE = (
    "check DOCKER_JOB_INTERRUPTION_QUEUE_URL: a queue that exists, and that the reaper may read "
    "and delete from, as docs/iam/reaper.json lets it"
)
KMS = "let the launcher's role and Spot's service-linked role use the KMS key of the volumes"

RULES: tuple[Rule, ...] = (
    Rule(
        Throttled,
        (
            *("RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled*", "Throttl*"),
            *("TooManyRequests*", "*ThrottledException", "SlowDown", "PriorRequestNotComplete"),
        ),
    ),
    # The token is spent, or the template or its version was removed: a new plan names new ones.
    Rule(
        Stale,
        (
            *("IdempotentInstanceTerminated", "IdempotentParameterMismatch"),
            *("InvalidLaunchTemplate*NotFound*", "launchTemplate*DoesNotExist"),
        ),
    ),
    Rule(
        NoCapacity,
        (
            *("Insufficient*Capacity*", "InsufficientFreeAddresses*", "UnfulfillableCapacity"),
            *("*CapacityExceeded", "SpotMaxPriceTooLow"),
        ),
    ),
    Rule(Misconfigured, ("TagLimitExceeded",), PARAMETERS),
    Rule(QuotaReached, ("*LimitExceeded", "*LimitExceededException", "Max*Exceeded")),
    # Nothing was done, but our clock or credentials are out of date, and will not be for long.
    Rule(Unknown, ("RequestExpired", "ExpiredToken*", "RequestTimeout*")),
    Rule(
        Unknown,
        ("Internal*", "ServiceUnavailable*", "Unavailable", "ServerInternal", "RequestCanceled"),
    ),
    # The job's own: of types that it names. `at_fault` spares a job that names nothing.
    Rule(Rejected, ("InvalidInstanceType*",)),
    Rule(Rejected, ("Unsupported*", "InvalidFleetConfig*"), words=("availability zone",)),
    # Not of a launch, but of an end: what does not exist needs none.
    Rule(Rejected, ("InvalidInstanceID.*", "InvalidSpotInstanceRequestID.*")),
    # All from here on is the deployment's or the account's fault.
    Rule(Misconfigured, ("AuthFailure.ServiceLinkedRole*",), SPOT_ROLE),
    Rule(Misconfigured, ("PendingVerification*", "OptInRequired", "Blocked"), ACCOUNT),
    Rule(Misconfigured, ("InvalidAMIID*", "InvalidAMIName*"), IMAGE),
    Rule(Misconfigured, ("ParameterNotFound", "ParameterVersionNotFound"), IMAGE),
    Rule(Misconfigured, ("InvalidSubnet*", "DefaultVpcDoesNotExist"), SUBNETS),
    Rule(Misconfigured, ("MissingInput", "VPCIdNotSpecified", "InvalidVpcID*"), SUBNETS),
    Rule(Misconfigured, ("InvalidGroup*", "InvalidSecurityGroup*"), GROUPS),
    Rule(Misconfigured, ("InvalidKeyPair*",), KEY_NAME),
    Rule(Misconfigured, ("InvalidIamInstanceProfile*", "NoSuchEntity*"), PROFILE),
    Rule(
        Misconfigured,
        ("InvalidParameter*",),
        PROFILE,
        words=("instance profile", "instanceprofile"),
    ),
    Rule(Misconfigured, ("InvalidParameter*",), GROUPS, words=("security group", "securitygroup")),
    Rule(Misconfigured, ("InvalidParameter*",), SUBNETS, words=("subnet",)),
    Rule(Misconfigured, ("InvalidParameter*",), IMAGE, words=("architecture", "image", " ami")),
    Rule(Misconfigured, ("InvalidParameter*",), PRICE, words=("price",)),
    Rule(Misconfigured, ("*NonExistentQueue*", "*QueueDoesNotExist*"), QUEUE),
    Rule(Misconfigured, ("*KMS*", "*Kms*", "*KeyUnavailable*", "*InvalidKmsKey*"), KMS),
    Rule(
        Misconfigured,
        ("UnauthorizedOperation", "AccessDenied*", "NotAuthorized*", "Unauthorized*"),
        PERMISSION,
    ),
    Rule(
        Misconfigured,
        (
            *("AuthFailure*", "InvalidClientTokenId", "UnrecognizedClient*", "IncompleteSignature"),
            *("SignatureDoesNotMatch", "InvalidSignature*", "MissingAuthenticationToken*"),
        ),
        CREDENTIALS,
    ),
    Rule(Misconfigured, ("InvalidAction", "UnknownOperation*", "MissingAction"), ENDPOINT),
    Rule(
        Misconfigured,
        (
            *("InvalidParameter*", "MissingParameter*", "UnknownParameter*", "Validation*"),
            *("Malformed*", "InvalidUserData*", "InvalidLaunchTemplate*", "InvalidFleetConfig*"),
            *("InvalidBlockDeviceMapping*", "InvalidTagKey*", "Unsupported*", "InvalidInput*"),
            *("InvalidRequest*", "InvalidCharacter", "InvalidQueryParameter", "InvalidFormat"),
        ),
        PARAMETERS,
    ),
)
