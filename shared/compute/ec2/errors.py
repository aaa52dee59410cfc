"""EC2's errors and what the caller does next: the one table.

The codes are those of https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html. A code
that is not here is the client's own doing, with which no repeat succeeds; a server's error (5xx), a
timeout and a connection cut are `Unknown`, since the call may have had its effect.
"""

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from shared.compute.port import (
    ComputeError,
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
    "SpotMaxPriceTooLow": NoCapacity,
    "MaxSpotInstanceCountExceeded": QuotaReached,
    "MaxSpotFleetRequestCountExceeded": QuotaReached,
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
    kind = CODES.get(code) or (Unknown if status >= 500 else Rejected)
    return kind(f"{code}: {message}")


def code_of(error: Exception) -> str:
    """AWS's code, or none."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))
