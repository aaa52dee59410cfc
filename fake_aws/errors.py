"""Errors in AWS's form: a code for programs, a message for users, an HTTP status."""


class AwsError(Exception):
    """Refusal of one call. *code* is `error.response["Error"]["Code"]` in boto3."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def not_found(kind: str, ids: list[str]) -> AwsError:
    """Build the error for unknown *ids*; *kind* is EC2's, such as InvalidInstanceID."""
    text = {
        "InvalidInstanceID": "instance ID",
        "InvalidSpotInstanceRequestID": "spot instance request ID",
    }.get(kind, "ID")
    if len(ids) == 1:
        return AwsError(f"{kind}.NotFound", f"The {text} '{ids[0]}' does not exist")
    listed = ", ".join(ids)
    return AwsError(f"{kind}.NotFound", f"The {text}s '{listed}' do not exist")


def malformed(kind: str, given: str) -> AwsError:
    """Build the error for an id of the wrong form."""
    return AwsError(f"{kind}.Malformed", f'Invalid id: "{given}"')


def invalid(message: str) -> AwsError:
    """Build the error for a value that EC2 does not accept."""
    return AwsError("InvalidParameterValue", message)


def combination(message: str) -> AwsError:
    """Build the error for values that exclude each other."""
    return AwsError("InvalidParameterCombination", message)


def missing(name: str) -> AwsError:
    """Build the error for a missing parameter."""
    return AwsError("MissingParameter", f"The request must contain the parameter {name}")


def throttled() -> AwsError:
    """Build the error for an empty token bucket."""
    return AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)


def dry_run() -> AwsError:
    """Build the error that answers a permitted call with `DryRun`."""
    message = "Request would have succeeded, but DryRun flag is set."
    return AwsError("DryRunOperation", message, 412)


def unauthorized(reason: str = "", encoded: str = "") -> AwsError:
    """Build EC2's error for a call that no policy allows.

    A call that changes something ends its message with what only STS can decode:
    https://github.com/aws/karpenter-provider-aws/issues/1536 (*reason* empty) and
    https://github.com/kubernetes-sigs/karpenter/issues/2813.
    """
    parts = ["You are not authorized to perform this operation.", reason]
    if encoded:
        parts.append(f"Encoded authorization failure message: {encoded}")
    return AwsError("UnauthorizedOperation", " ".join(filter(None, parts)), 403)
