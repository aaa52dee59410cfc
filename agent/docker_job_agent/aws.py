"""AWS APIs, called with the credentials of the instance's role."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from .environment import PREFIX, Config, value_of
from .errors import AwsError, UnreachableError
from .http_client import Http
from .log import now_utc
from .metadata import Metadata, metadata_service
from .partitions import domains_of
from .retries import backoff_seconds, jitter

AWS_TRIES = 4
AWS_TIMEOUT_SECONDS = 10.0


class Credentials(NamedTuple):
    """Credentials of the instance's role, valid for some hours."""

    access_key: str
    secret_key: str
    session_token: str


class Request(NamedTuple):
    """A POST to an AWS service, before it is signed. Header names are in lower case."""

    service: str
    region: str
    headers: dict[str, str]
    body: bytes


def sign(request: Request, credentials: Credentials, now: datetime) -> dict[str, str]:
    """Return the headers with Signature Version 4; every header is signed.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    timestamp = f"{now:%Y%m%dT%H%M%SZ}"
    headers = {**request.headers, "x-amz-date": timestamp}
    headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    payload = hashlib.sha256(request.body).hexdigest()
    canonical = f"POST\n/\n\n{lines}\n{names}\n{payload}"
    scope = f"{timestamp[:8]}/{request.region}/{request.service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashed}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={credentials.access_key}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


class Aws:
    """AWS APIs for the instance's role. Not thread-safe."""

    ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
    REGION_PATH = "/latest/meta-data/placement/region"
    INSTANCE_PATH = "/latest/meta-data/instance-id"
    TARGETS: Mapping[str, str] = {
        "ssm": "AmazonSSM",
        "secretsmanager": "secretsmanager",
        "ecr": "AmazonEC2ContainerRegistry_V20150921",
    }
    ENDPOINTS: Mapping[str, str] = {"secretsmanager": "SECRETS_MANAGER"}
    _now: Callable[[], datetime] = staticmethod(now_utc)

    def __init__(self, metadata: Metadata, environment: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._now = metadata.now
        self._environment = environment
        self._region: str | None = None
        self._instance_id: str | None = None

    def region(self) -> str:
        """Return the region of this instance; raises UnreachableError."""
        if self._region is None:
            self._region = self._metadata_text(self.REGION_PATH).strip()
        return self._region

    def instance_id(self) -> str | None:
        """Return the id of this instance, None if the metadata service does not show it now."""
        if self._instance_id is None:
            try:
                self._instance_id = self._metadata_text(self.INSTANCE_PATH).strip()
            except UnreachableError:
                return None
        return self._instance_id

    def credentials(self) -> Credentials:
        """Return the role's present credentials; raises UnreachableError."""
        role = self._metadata_text(self.ROLE_PATH).split("\n")[0].strip()
        try:
            given = json.loads(self._metadata_text(self.ROLE_PATH + role))
            return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["Token"])
        except (ValueError, KeyError, TypeError):
            raise UnreachableError("the metadata service has no credentials of a role") from None

    def now(self) -> datetime:
        """Return the time for signatures: call it after `credentials`, which asks the service."""
        return self._now()

    def url(self, service: str, region: str, endpoint: str | None = None) -> str:
        """Return a service's URL: AWS's own (at *endpoint*), unless the environment has another."""
        name = self.ENDPOINTS.get(service, service.upper())
        for variable in (f"AWS_ENDPOINT_URL_{name}", "AWS_ENDPOINT_URL"):
            given = value_of(self._environment, variable)
            if given:
                return given
        return f"https://{endpoint or f'{service}.{region}.{domains_of(region).plain}'}"

    def sts_host(self) -> str:
        """Return the host of the STS that the API calls; the agent only signs it."""
        url = value_of(self._environment, PREFIX + "STS_URL") or self.url("sts", self.region())
        return url.partition("://")[2].split("/")[0]

    def call(
        self,
        service: str,
        action: str,
        region: str | None,
        body: object,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Call an action in the JSON protocol, with retries if they may help; raises AwsError.

        *endpoint* is a host of AWS's, by default the service's usual one in the region.
        """
        failures = 0
        while True:
            try:
                return self._call(service, action, region or self.region(), body, endpoint)
            except UnreachableError as error:
                trouble = AwsError(f"{service} does not answer ({error})", permanent=False)
            except AwsError as error:
                trouble = error
            failures += 1
            if trouble.permanent or failures >= AWS_TRIES:
                raise trouble
            time.sleep(backoff_seconds(failures + 2, jitter()))

    def _call(
        self, service: str, action: str, region: str, body: object, endpoint: str | None
    ) -> dict[str, Any]:
        url = self.url(service, region, endpoint)
        headers = {
            "host": url.partition("://")[2].split("/")[0],
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"{self.TARGETS[service]}.{action}",
        }
        request = Request(service, region, headers, json.dumps(body).encode())
        signed = sign(request, self.credentials(), self.now())
        answer = Http(url, AWS_TIMEOUT_SECONDS).request("POST", "/", signed, request.body)
        given: Any = answer.json()
        if answer.status == 200 and isinstance(given, dict):
            return given
        raise aws_error(answer.status, given)

    def _metadata_text(self, path: str) -> str:
        text = self._metadata.get(path)
        if not text:
            raise UnreachableError(f"the metadata service has nothing at {path}")
        return text


def make_aws(config: Config) -> Aws | None:
    """Return the AWS APIs for the instance's role, None if there is no metadata service."""
    metadata = metadata_service(config.metadata_url)
    return Aws(metadata, os.environ) if metadata else None


# What passes by itself: throttling, and credentials or a clock that are renewed or set meanwhile.
# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html
PASSING = re.compile(
    r"Throttl|TooManyRequests|Expired|InvalidSignature|Timeout|Unavailable|Internal"
)


def aws_error(status: int, answer: object) -> AwsError:
    """Return AWS's error with its own code and message; some are not permanent.

    Nor is an answer without AWS's code: a proxy's.
    """
    given: dict[str, Any] = answer if isinstance(answer, dict) else {}
    named = str(given.get("__type", "")).rpartition("#")[2]
    code = named or f"status {status}"
    message = str(given.get("message") or given.get("Message") or "")[:500]
    again = not named or status >= 500 or status in (408, 425, 429) or PASSING.search(named)
    return AwsError(f"{code}: {message}" if message else code, permanent=not again)
