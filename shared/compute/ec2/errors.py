"""EC2's errors and what the caller does next: the one table.

The codes are those of https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html. Codes
that are final are listed: what the call asks for is wrong or forbidden. Any other client's error
(4xx) is a definite refusal that may pass, such as an account that is still being verified
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
        # What is asked for cannot be read, or does not go together.
        *("InvalidParameter", "InvalidParameterValue", "InvalidParameterCombination"),
        *("InvalidParameterDependency", "MissingParameter", "UnknownParameter"),
        *("ValidationError", "ValidationException", "InvalidUserData.Malformed"),
        *("InvalidLaunchTemplateConfig", "InvalidFleetConfig", "InvalidFleetConfiguration"),
        *("InvalidBlockDeviceMapping", "TagLimitExceeded", "InvalidTagKey.Malformed"),
        # It names what is not there.
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
"""With these no repeat of the call succeeds, as long as nobody changes what it asks for."""

PROFILE = "IAM Instance Profile"
"""In the message of an `InvalidParameterValue` that is not final: EC2 comes to know an instance
profile, or the role in it, some seconds after it was made.
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
"""

UNFIT = frozenset({"Unsupported", "InvalidFleetConfiguration"})
"""Of one pool of a fleet: this type cannot be had in this zone at all."""

SPENT_TOKEN = frozenset({"IdempotentInstanceTerminated", "IdempotentParameterMismatch"})


def error_of(error: Exception) -> ComputeError:
    """What the port calls *error*, with AWS's own message."""
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
    """The port's error for one of AWS's."""
    return _kind_of(code, message, status)(f"{code}: {message}")


def _kind_of(code: str, message: str, status: int) -> type[ComputeError]:
    if code in CODES:
        return CODES[code]
    if status >= 500:
        return Unknown
    not_spread_yet = code == "InvalidParameterValue" and PROFILE.lower() in message.lower()
    return Rejected if code in FINAL and not not_spread_yet else Deferred


def code_of(error: Exception) -> str:
    """AWS's code, or none."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))
