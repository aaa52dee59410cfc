"""Signature Version 4, checked as AWS checks it: over what arrived, with the secret of the signer.

The canonical request and the signature are botocore's: the code that signs boto3's calls.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

Each service has its own code for one fault. EC2 has `RequestExpired` for credentials that have
ended (https://github.com/aws/aws-sdk-go-v2/issues/1674), and `AuthFailure` for a clock that is off
(https://github.com/aws/aws-sdk-java/issues/519), of which its list of codes has `RequestExpired`:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. The others name both
times: https://github.com/convox/rack/issues/235 and, in JSON,
https://github.com/fabfuel/ecs-deploy/issues/126.
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
JSON_SERVICES = frozenset({"ssm", "sqs", "pricing"})


def verify(
    request: Request, service: str, keys: Keys, now: datetime, ec2_clock_error: str = "AuthFailure"
) -> Credential:
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
        raise _expired(service)
    signed_at = _signed_at(request, given["day"])
    if abs(now - signed_at) > SKEW:
        raise _another_time(service, signed_at, now, ec2_clock_error)
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
        return _not_valid()
    if service in JSON_SERVICES:
        return AwsError("UnrecognizedClientException", message, 400)
    return AwsError("InvalidClientTokenId", message, 403)


def _not_valid() -> AwsError:
    message = "AWS was not able to validate the provided access credentials"
    return AwsError("AuthFailure", message, 401)


def _mismatch(message: str) -> AwsError:
    return AwsError("SignatureDoesNotMatch", message, 403)


def _expired(service: str) -> AwsError:
    if service == "ec2":
        return AwsError("RequestExpired", "Request has expired.")
    message = "The security token included in the request is expired"
    if service in JSON_SERVICES:
        return AwsError("ExpiredTokenException", message)
    return AwsError("ExpiredToken", message, 403)


def _another_time(service: str, at: datetime, now: datetime, ec2_clock_error: str) -> AwsError:
    if service == "ec2":
        return _not_valid() if ec2_clock_error == "AuthFailure" else _expired(service)
    is_old = at < now
    limit = now - SKEW if is_old else now + SKEW
    message = (
        f"Signature {'expired' if is_old else 'not yet current'}: {at:{TIME_FORMAT}} is "
        f"{'now earlier' if is_old else 'still later'} than {limit:{TIME_FORMAT}} "
        f"({now:{TIME_FORMAT}} {'-' if is_old else '+'} 5 min.)"
    )
    if service in JSON_SERVICES:
        return AwsError("InvalidSignatureException", message)
    return _mismatch(message)


def _signed_at(request: Request, day: str) -> datetime:
    stamp = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(stamp, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise AwsError("IncompleteSignature", f"Date {stamp!r} makes no sense", 400) from error
    if not stamp.startswith(day):
        raise _mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version")
    return signed_at
