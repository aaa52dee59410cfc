"""The table of EC2's errors as errors of the port.

The codes are those of https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html. Codes
that are final are listed: the request is wrong or forbidden. Any other client error (4xx) is a
definite refusal that may pass, such as an account that is still being verified
(`PendingVerification`), activated (`OptInRequired`) or unblocked. A server's error (5xx), a timeout
and a connection cut are `Unknown`, since the call may have had its effect.
"""

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from shared.compute.port import (
    ComputeError,
    Deferred,
    NoCapacity,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)

CODES: dict[str, type[ComputeError]] = {
    "InsufficientInstanceCapacity": NoCapacity,
    "InsufficientHostCapacity": NoCapacity,
    "InsufficientFreeAddressesInSubnet": NoCapacity,
    "UnfulfillableCapacity": NoCapacity,
    "ReservationCapacityExceeded": NoCapacity,
    "SpotMaxPriceTooLow": NoCapacity,
    "MaxSpotInstanceCountExceeded": QuotaReached,
    "MaxSpotFleetRequestCountExceeded": QuotaReached,
    "MaxFleetCountExceeded": QuotaReached,
    "VcpuLimitExceeded": QuotaReached,
    "InstanceLimitExceeded": QuotaReached,
    "VolumeLimitExceeded": QuotaReached,
    "NetworkInterfaceLimitExceeded": QuotaReached,
    "RequestLimitExceeded": Throttled,
    "Throttling": Throttled,
    "ThrottlingException": Throttled,
    "ThrottledException": Throttled,
    "TooManyRequestsException": Throttled,
    "EC2ThrottledException": Throttled,
    "BandwidthLimitExceeded": Throttled,
    "IdempotentInstanceTerminated": Stale,
    "IdempotentParameterMismatch": Stale,
    "InvalidLaunchTemplateId.NotFound": Stale,
    "InvalidLaunchTemplateId.VersionNotFound": Stale,
    "InvalidLaunchTemplateName.NotFoundException": Stale,
    # Nothing was done, but our clock or credentials are out of date, and will not be for long.
    "RequestExpired": Unknown,
    "ExpiredToken": Unknown,
    "ExpiredTokenException": Unknown,
    "InternalError": Unknown,
    "InternalFailure": Unknown,
    "ServiceUnavailable": Unknown,
    "Unavailable": Unknown,
    "RequestTimeout": Unknown,
}

FINAL = frozenset(
    {
        # The request cannot be read, or its values contradict each other.
        *("InvalidParameter", "InvalidParameterValue", "InvalidParameterCombination"),
        *("InvalidParameterDependency", "MissingParameter", "UnknownParameter"),
        *("ValidationError", "ValidationException", "InvalidUserData.Malformed"),
        *("InvalidLaunchTemplateConfig", "InvalidFleetConfig", "InvalidFleetConfiguration"),
        *("InvalidBlockDeviceMapping", "TagLimitExceeded", "InvalidTagKey.Malformed"),
        # It names what does not exist.
        *("InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable"),
        *("InvalidSubnet", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed"),
        *("InvalidGroup.NotFound", "InvalidGroupId.Malformed", "InvalidSecurityGroupID.NotFound"),
        *("InvalidSecurityGroupID.Malformed", "InvalidKeyPair.NotFound", "InvalidInstanceType"),
        *("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "ParameterNotFound"),
        *("InvalidSpotInstanceRequestID.NotFound", "InvalidSpotInstanceRequestID.Malformed"),
        # It is forbidden, or there is no such thing.
        *("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"),
        *("Unsupported", "UnsupportedOperation", "InvalidAction"),
    }
)
"""With these no repetition of the same call succeeds."""

PROFILE = "IAM Instance Profile"
"""In the message of an `InvalidParameterValue` that is not final: an instance profile, or
the role in it, is visible to EC2 some seconds after it was made.
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
"""

UNFIT = frozenset({"Unsupported", "InvalidFleetConfiguration"})
"""Of one pool of a fleet: this zone does not offer this type at all."""


def error_of(error: Exception) -> ComputeError:
    """Return the port's error for *error*, with AWS's own message."""
    if isinstance(error, ComputeError):
        return error
    if isinstance(error, ClientError):
        code = code_of(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        message = error.response.get("Error", {}).get("Message", "")
        return named(code, message, status=int(status))
    if isinstance(error, ParamValidationError):
        return Rejected(str(error))
    if isinstance(error, (BotoCoreError, OSError)):
        return Unknown(f"AWS does not answer: {error}")
    raise error


def named(code: str, message: str, *, status: int = 400) -> ComputeError:
    """Return the port's error for a code of AWS."""
    return _kind_of(code, message, status)(f"{code}: {message}")


def _kind_of(code: str, message: str, status: int) -> type[ComputeError]:
    if code in CODES:
        return CODES[code]
    if status >= 500:
        return Unknown
    is_not_visible_yet = code == "InvalidParameterValue" and PROFILE.lower() in message.lower()
    return Rejected if code in FINAL and not is_not_visible_yet else Deferred


def code_of(error: Exception) -> str:
    """Return AWS's code, or an empty text."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))
