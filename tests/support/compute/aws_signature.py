"""AWS's side of Signature Version 4 for the agent's tests: by botocore, as the fake AWS."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from fake_aws.signature import AUTHORIZATION, TIME_FORMAT, is_signed
from fake_aws.wire import Request

SKEW = timedelta(minutes=15)


class BadSignatureError(Exception):
    """AWS would refuse the request. The text is AWS's error code."""


def signer_of(
    headers: Mapping[str, str], url: str, body: bytes, secrets: Mapping[str, str], now: datetime
) -> re.Match[str]:
    """Check a POST as AWS does; return the parsed Authorization. *secrets* are by access key.

    Raises `BadSignatureError`. Only the signed headers count, as they came.
    """
    arrived = {name.lower(): value for name, value in headers.items()}
    given = AUTHORIZATION.fullmatch(arrived.get("authorization", ""))
    if given is None:
        raise BadSignatureError("IncompleteSignature")
    if given["key"] not in secrets:
        raise BadSignatureError("InvalidClientTokenId")
    at = datetime.strptime(arrived["x-amz-date"], TIME_FORMAT).replace(tzinfo=UTC)
    if abs(now - at) > SKEW:
        raise BadSignatureError("SignatureDoesNotMatch: Signature expired")
    parts = urlsplit(url)
    request = Request("POST", parts.path, parts.query, arrived, body)
    if not is_signed(request, given, secrets[given["key"]]):
        raise BadSignatureError("SignatureDoesNotMatch")
    return given
