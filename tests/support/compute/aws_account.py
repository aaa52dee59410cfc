"""The AWS services that an instance calls, as small and strict HTTP servers.

Each checks the signature of a request with botocore, by the test's clock. The answers have the form
of AWS's own documentation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.integration.test_agent import FakeMetadata, Server
from tests.support.compute.aws_signature import BadSignatureError, signer_of

ACCOUNT = "123456789012"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/service/docker-job-instance"
REGION = "eu-west-1"
GET_CALLER_IDENTITY = b"Action=GetCallerIdentity&Version=2011-06-15"


def wall_clock() -> datetime:
    return datetime.now(UTC)


def session_of(
    instance_id: str, *, role: str = "docker-job-instance", account: str = ACCOUNT
) -> str:
    """Return the ARN of an instance's session."""
    return f"arn:aws:sts::{account}:assumed-role/{role}/{instance_id}"


class FakeSts(Server):
    """STS: answers GetCallerIdentity to callers that sign with a key that it has issued."""

    def __init__(self, now: Callable[[], datetime] = wall_clock) -> None:
        super().__init__()
        self._now = now
        self.sessions: dict[str, tuple[str, str]] = {}
        self.asked = 0
        self.away = False

    def give(self, arn: str) -> tuple[str, str]:
        """Issue an access key and its secret for the session *arn*."""
        key = f"ASIA{len(self.sessions):016d}"
        secret = f"secret-{len(self.sessions)}-canary"
        self.sessions[key] = (secret, arn)
        return key, secret

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        self.asked += 1
        if self.away:
            return 503, ""
        secrets = {key: secret for key, (secret, _) in self.sessions.items()}
        try:
            match = signer_of(headers, f"{self.url}{path}", raw, secrets, self._now())
        except BadSignatureError as error:
            return 403, f"<ErrorResponse><Error><Code>{error}</Code></Error></ErrorResponse>"
        if match["service"] != "sts" or match["region"] != REGION or raw != GET_CALLER_IDENTITY:
            return 400, "<ErrorResponse/>"
        arn = self.sessions[match["key"]][1]
        return 200, (
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<GetCallerIdentityResult><Arn>{arn}</Arn><UserId>AROA:x</UserId>"
            f"<Account>{arn.split(':')[4]}</Account></GetCallerIdentityResult>"
            "</GetCallerIdentityResponse>"
        )


class InstanceMetadata(FakeMetadata):
    """A metadata service whose instance has a role."""

    def __init__(self, key: str, secret: str, instance_id: str | None = None) -> None:
        super().__init__()
        self.rebalance = False
        self._instance_id = instance_id
        self._credentials = {
            "Code": "Success",
            "AccessKeyId": key,
            "SecretAccessKey": secret,
            "Token": "session-canary",
        }

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        status, text = super().answer(method, path, headers, raw)
        if method == "PUT" or status != 404:
            return status, text
        known = {
            "/latest/meta-data/placement/region": REGION,
            "/latest/meta-data/iam/security-credentials/": "docker-job-instance\n",
            "/latest/meta-data/iam/security-credentials/docker-job-instance": json.dumps(
                self._credentials
            ),
        }
        if self._instance_id:
            known["/latest/meta-data/instance-id"] = self._instance_id
        if self.rebalance:
            known["/latest/meta-data/events/recommendations/rebalance"] = '{"noticeTime": "…"}'
        return (200, known[path]) if path in known else (404, "")


class FakeSecrets(Server):
    """SSM, Secrets Manager and ECR: a role's secrets, for callers that sign with its key."""

    def __init__(self, key: str, secret: str) -> None:
        super().__init__()
        self._keys = {key: secret}
        self.parameters: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.throttled = 0
        self.asked: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which an agent finds all three."""
        return {"AWS_ENDPOINT_URL": self.url}

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        try:
            signer_of(headers, f"{self.url}{path}", raw, self._keys, wall_clock())
        except BadSignatureError as error:
            return 400, json.dumps({"__type": "InvalidSignatureException", "message": str(error)})
        target = {name.lower(): value for name, value in headers.items()}["x-amz-target"]
        self.asked.append(target)
        if self.throttled:
            self.throttled -= 1
            return 400, json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"})
        status, answer = self._answer(target, json.loads(raw))
        return status, json.dumps(answer)

    def _answer(self, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if target == "AmazonSSM.GetParameter" and body["WithDecryption"]:
            if body["Name"] in self.parameters:
                return 200, {"Parameter": {"Value": self.parameters[body["Name"]]}}
            return 400, {"__type": "ParameterNotFound"}
        if target == "secretsmanager.GetSecretValue":
            if body["SecretId"] in self.secrets:
                return 200, {"SecretString": self.secrets[body["SecretId"]]}
            return 400, {"__type": "AccessDeniedException", "Message": "not authorized"}
        assert target == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
        token = base64.b64encode(b"AWS:ecr-canary").decode()
        return 200, {"authorizationData": [{"authorizationToken": token}]}
