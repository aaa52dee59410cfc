"""Errors as AWS says them: a code that programs read, words for people, an HTTP status."""


class AwsError(Exception):
    """Refuses one call. *code* is the one that boto3's `error.response["Error"]["Code"]` shows."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def not_found(kind: str, ids: list[str]) -> AwsError:
    """*kind* is EC2's: InvalidInstanceID, InvalidSpotInstanceRequestID, and the like."""
    text = {
        "InvalidInstanceID": "instance ID",
        "InvalidSpotInstanceRequestID": "spot instance request ID",
    }.get(kind, "ID")
    if len(ids) == 1:
        return AwsError(f"{kind}.NotFound", f"The {text} '{ids[0]}' does not exist")
    listed = ", ".join(ids)
    return AwsError(f"{kind}.NotFound", f"The {text}s '{listed}' do not exist")


def malformed(kind: str, given: str) -> AwsError:
    """An id that cannot be one."""
    return AwsError(f"{kind}.Malformed", f'Invalid id: "{given}"')


def invalid(message: str) -> AwsError:
    """A value that EC2 does not take."""
    return AwsError("InvalidParameterValue", message)


def combination(message: str) -> AwsError:
    """Values that do not go together."""
    return AwsError("InvalidParameterCombination", message)


def missing(name: str) -> AwsError:
    """A parameter that must be there."""
    return AwsError("MissingParameter", f"The request must contain the parameter {name}")


def throttled() -> AwsError:
    """A bucket is empty."""
    return AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)


def unauthorized() -> AwsError:
    """A policy does not allow it, in EC2's words."""
    return AwsError(
        "UnauthorizedOperation", "You are not authorized to perform this operation.", 403
    )
