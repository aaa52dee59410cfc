"""Errors as one line that says what to do."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, which its endpoint errors derive from
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from deploy import clock

NO_CREDENTIALS = (
    "No AWS credentials were found: run `aws configure` or `aws sso login`, name a profile with "
    "--profile, or set AWS_PROFILE. This script never asks for keys."
)
EXPIRED = (
    "The AWS credentials have expired: get new ones (`aws sso login`, or from their issuer) and "
    "run this again."
)
WRONG = "AWS does not know these credentials ({code}): check the profile, or make a new access key."

EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
WRONG_CODES = frozenset(
    {
        *("InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure"),
        *("UnrecognizedClientException", "InvalidAccessKeyId", "InvalidSignatureException"),
    }
)
DENIED_CODES = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class Refusal(Exception):
    """An expected failure. The message is one line for the operator, and says what to do."""


def code_of(error: ClientError) -> str:
    """Return AWS's code of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def as_refusals() -> Iterator[None]:
    """Turn the SDK's exceptions within the block into `Refusal`."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise Refusal(NO_CREDENTIALS) from error
    except (SSOError, TokenRetrievalError) as error:
        raise Refusal(EXPIRED) from error
    except ConnectionError as error:
        raise Refusal(
            f"AWS does not answer ({_one_line(error)}): check the network and the region's name."
        ) from error
    except ClientError as error:
        raise _from_code(error) from error
    except BotoCoreError as error:
        raise Refusal(f"The AWS SDK has failed: {_one_line(error)}") from error


def off_time(trouble: str) -> Refusal:
    """Build the refusal of a clock that is wrong, for the reason *trouble*."""
    return Refusal(f"The clock: {trouble}; {clock.SYNCHRONISE}.")


def _from_code(error: ClientError) -> Refusal:
    code = code_of(error)
    if code in EXPIRED_CODES | WRONG_CODES:
        # RequestExpired and SignatureDoesNotMatch are also the answer to another time.
        trouble = clock.trouble(error.response, datetime.now(UTC))
        if trouble:
            return off_time(trouble)
    if code in EXPIRED_CODES:
        return Refusal(EXPIRED)
    if code in WRONG_CODES:
        return Refusal(WRONG.format(code=code))
    if code in DENIED_CODES:
        return Refusal(
            f"These credentials may not call {error.operation_name}: use an administrator's, or "
            f"have the call allowed. AWS's answer: {_one_line(error)}"
        )
    return Refusal(f"AWS refuses {error.operation_name}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
