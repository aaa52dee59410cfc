"""AWS's side of Signature Version 4, by botocore: an oracle that is none of our code."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Z0-9]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/"
    r"(?P<service>[a-z]+)/aws4_request, SignedHeaders=(?P<signed>[a-z0-9;-]+), "
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
SKEW = timedelta(minutes=15)


class BadSignatureError(Exception):
    """AWS would not take the request. The text is AWS's error code."""


def signer_of(
    headers: Mapping[str, str], url: str, body: bytes, secrets: Mapping[str, str], now: datetime
) -> re.Match[str]:
    """Check a POST as AWS does; returns what its Authorization says. *secrets* are by access key.

    Raises `BadSignatureError`. Only the signed headers count, as they came.
    """
    given = {name.lower(): value for name, value in headers.items()}
    match = AUTHORIZATION.fullmatch(given.get("authorization", ""))
    if match is None:
        raise BadSignatureError("IncompleteSignature")
    if match["key"] not in secrets:
        raise BadSignatureError("InvalidClientTokenId")
    signed = match["signed"].split(";")
    if "host" not in signed or not set(signed) <= given.keys():
        raise BadSignatureError("SignatureDoesNotMatch")
    at = datetime.strptime(given["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(now - at) > SKEW:
        raise BadSignatureError("SignatureDoesNotMatch: Signature expired")
    request = AWSRequest("POST", url, {name: given[name] for name in signed}, body)
    request.context["timestamp"] = given["x-amz-date"]
    credentials = Credentials(match["key"], secrets[match["key"]])
    auth = SigV4Auth(credentials, match["service"], match["region"])
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != match["signature"]:
        raise BadSignatureError("SignatureDoesNotMatch")
    return match
