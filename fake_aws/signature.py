"""Signature Version 4, checked as AWS checks it: over what arrived, with the secret of who signed.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from fake_aws.credentials import Credential, Keys
from fake_aws.errors import AwsError
from fake_aws.wire import SCOPE, Request

SKEW = timedelta(minutes=5)
SIGNED = re.compile(r"SignedHeaders=([^,\s]+)")
SIGNATURE = re.compile(r"Signature=([0-9a-f]{64})")


def verify(request: Request, service: str, keys: Keys, now: datetime) -> Credential:
    """Who signed *request*. Raises AwsError in AWS's words for each way in which it is not true."""
    authorization = request.headers.get("authorization", "")
    scope, signed, signature = (
        pattern.search(authorization) for pattern in (SCOPE, SIGNED, SIGNATURE)
    )
    if not (authorization.startswith("AWS4-HMAC-SHA256 ") and scope and signed and signature):
        raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    credential = keys.find(scope.group(1))
    if credential is None:
        raise _refusal(service, "The security token included in the request is invalid.")
    if request.headers.get("x-amz-security-token", "") != credential.session_token:
        raise _refusal(service, "The security token included in the request is invalid")
    if credential.expires_at is not None and now >= credential.expires_at:
        raise AwsError("ExpiredToken", "The security token included in the request is expired", 403)
    _check_time(request, scope.group(2), now)
    names = signed.group(1).split(";")
    if "host" not in names or scope.group(4) != service:
        raise _mismatch("Credential should be scoped to correct service.")
    expected = _signature(request, names, credential.secret, scope)
    if not hmac.compare_digest(expected, signature.group(1)):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
    return credential


def _refusal(service: str, message: str) -> AwsError:
    if service == "ec2":
        return AwsError(
            "AuthFailure", "AWS was not able to validate the provided access credentials", 401
        )
    if service in {"ssm", "sqs", "pricing"}:
        return AwsError("UnrecognizedClientException", message, 400)
    return AwsError("InvalidClientTokenId", message, 403)


def _mismatch(message: str) -> AwsError:
    return AwsError("SignatureDoesNotMatch", message, 403)


def _check_time(request: Request, day: str, now: datetime) -> None:
    stamp = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise AwsError("IncompleteSignature", f"Date {stamp!r} makes no sense", 400) from error
    if not stamp.startswith(day):
        raise _mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version")
    if abs(now - signed_at) > SKEW:
        word = "expired" if signed_at < now else "not yet current"
        raise _mismatch(f"Signature {word}: {stamp} is not within 5 min. of {now:%Y%m%dT%H%M%SZ}")


def _signature(request: Request, names: list[str], secret: str, scope: re.Match[str]) -> str:
    _, day, region, service = scope.groups()
    hashed = hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join(
        [
            request.method,
            quote(request.path, safe="/-_.~%"),
            _canonical_query(request.query),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names),
            "",
            ";".join(names),
            hashed,
        ]
    )
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            f"{day}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)
