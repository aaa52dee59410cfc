"""Signature Version 4, checked as AWS checks it: over what arrived, with the secret of the signer.

The canonical request and the signature are botocore's: the code that signs boto3's calls.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fake_aws.credentials import Credential, Keys
from fake_aws.errors import AwsError
from fake_aws.wire import Request

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[^/,\s]+)/"
    r"(?P<service>[^/,\s]+)/aws4_request,\s*SignedHeaders=(?P<signed>[^,\s]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
SKEW = timedelta(minutes=5)
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
BODY_HASH = "x-amz-content-sha256"


def verify(request: Request, service: str, keys: Keys, now: datetime) -> Credential:
    """Return the credential that signed *request*. Raises AwsError, with AWS's code and message."""
    given = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if given is None:
        raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    credential = keys.find(given["key"])
    if credential is None:
        raise _refusal(service, "The security token included in the request is invalid.")
    if request.headers.get("x-amz-security-token", "") != credential.session_token:
        raise _refusal(service, "The security token included in the request is invalid")
    if credential.expires_at is not None and now >= credential.expires_at:
        raise AwsError("ExpiredToken", "The security token included in the request is expired", 403)
    _check_time(request, given["day"], now)
    if given["service"] != service:
        raise _mismatch("Credential should be scoped to correct service.")
    if not is_signed(request, given, credential.secret):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
    return credential


def region_of(request: Request) -> str:
    """Return the region for which the request is signed; empty if it is not signed."""
    given = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    return given["region"] if given else ""


def is_signed(request: Request, given: re.Match[str], secret: str) -> bool:
    """Check that *secret* makes the signature that *given*, an `AUTHORIZATION`, has for *request*.

    Only the headers that it names count; Host must be one of them.
    """
    headers, names = request.headers, given["signed"].split(";")
    if "host" not in names or not headers.keys() >= set(names):
        return False
    # botocore signs a hash that this header gives, without hashing the body.
    if headers.get(BODY_HASH, hashed := hashlib.sha256(request.body).hexdigest()) != hashed:
        return False
    url = f"http://{headers['host']}{request.path}" + (request.query and f"?{request.query}")
    arrived = AWSRequest(request.method, url, {name: headers[name] for name in names}, request.body)
    arrived.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(given["key"], secret), given["service"], given["region"])
    text = signer.string_to_sign(arrived, signer.canonical_request(arrived))
    return hmac.compare_digest(signer.signature(text, arrived), given["signature"])


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
        signed_at = datetime.strptime(stamp, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise AwsError("IncompleteSignature", f"Date {stamp!r} makes no sense", 400) from error
    if not stamp.startswith(day):
        raise _mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version")
    if abs(now - signed_at) > SKEW:
        age = "expired" if signed_at < now else "not yet current"
        raise _mismatch(f"Signature {age}: {stamp} is not within 5 min. of {now:{TIME_FORMAT}}")
