"""The agent's requests to AWS, and its reading of secrets: the pure parts."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.docker_job_agent.aws import Aws, Credentials, Request, aws_error, sign
from agent.docker_job_agent.decisions import INTERRUPTED, Outcome, decide_final_callback
from agent.docker_job_agent.environment import read_config
from agent.docker_job_agent.errors import ConfigError, CouldNotRunError
from agent.docker_job_agent.job import Job, Login, read_wait
from agent.docker_job_agent.job_secrets import fetch_secret, read_login, registry_of, with_secrets
from tests.support.compute.aws_signature import BadSignatureError, signer_of

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ROLE = Credentials("ASIAEXAMPLE", "secret-key/+=", "session-token==")
SECRETS = {"ASIAEXAMPLE": "secret-key/+="}
URL = "https://sts.eu-west-1.amazonaws.com/"


def signed(**headers: str) -> dict[str, str]:
    host = {"host": "sts.eu-west-1.amazonaws.com"}
    body = b"Action=GetCallerIdentity"
    request = Request("sts", "eu-west-1", {**host, **headers}, body)
    return sign(request, ROLE, NOW)


def test_a_signature_is_the_one_that_aws_computes() -> None:
    headers = signed(**{"x-docker-job-deployment": "a  name  with   spaces "})
    match = signer_of(headers, URL, b"Action=GetCallerIdentity", SECRETS, NOW)
    assert (match["service"], match["region"]) == ("sts", "eu-west-1")
    assert match["signed"] == ("host;x-amz-date;x-amz-security-token;x-docker-job-deployment")


@pytest.mark.parametrize(
    ("changed", "body", "now"),
    [
        ({"x-docker-job-deployment": "another"}, b"Action=GetCallerIdentity", NOW),
        ({"host": "sts.evil.example"}, b"Action=GetCallerIdentity", NOW),
        ({}, b"Action=GetSessionToken", NOW),
        ({}, b"Action=GetCallerIdentity", NOW + timedelta(minutes=16)),
    ],
)
def test_nothing_that_is_signed_can_be_changed(
    changed: dict[str, str], body: bytes, now: datetime
) -> None:
    headers = signed(**{"x-docker-job-deployment": "ours"}) | changed
    with pytest.raises(BadSignatureError, match="SignatureDoesNotMatch"):
        signer_of(headers, URL, body, SECRETS, now)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ('{"username": "u", "password": "p:q"}', ("u", "p:q")),
        ("u:p:q", ("u", "p:q")),
    ],
)
def test_a_registrys_login_is_an_object_or_a_pair(text: str, login: tuple[str, str]) -> None:
    assert read_login(text) == Login(*login)


@pytest.mark.parametrize("text", ["", "canary", ":canary", "canary:", '{"username": "canary"}'])
def test_a_login_that_is_none_is_an_error_that_does_not_quote_it(text: str) -> None:
    with pytest.raises(CouldNotRunError) as raised:
        read_login(text)
    assert "canary" not in str(raised.value)
    assert "registry_auth" in str(raised.value)


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("alpine", None),
        ("library/alpine:3", None),
        ("ghcr.io/a/b", "ghcr.io"),
        ("localhost/a", "localhost"),
        ("localhost:5000/a:1", "localhost:5000"),
        ("docker.io/library/alpine", None),
        ("index.docker.io/a/b", None),
        ("MyRegistry/a", "MyRegistry"),
        ("[::1]:5000/a", "[::1]:5000"),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app@sha256:00",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        ),
    ],
)
def test_the_registry_is_what_docker_takes_it_for(image: str, registry: str | None) -> None:
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("status", "answer", "text", "again"),
    [
        (400, {"__type": "x#ParameterNotFound"}, "ParameterNotFound", False),
        (400, {"__type": "AccessDeniedException", "Message": "no"}, "AccessDeniedException: no", 0),
        (400, {"__type": "ThrottlingException", "message": "m"}, "ThrottlingException: m", True),
        (503, None, "status 503", True),
        (403, None, "status 403", True),  # not AWS's: a proxy's
        (400, {"__type": "ExpiredTokenException"}, "ExpiredTokenException", True),
        (400, {"__type": "InvalidSignatureException"}, "InvalidSignatureException", True),
    ],
)
def test_an_error_of_aws_is_reported_in_its_own_words(
    status: int, answer: Any, text: str, *, again: bool
) -> None:
    error = aws_error(status, answer)
    assert (str(error), error.permanent) == (text, not again)


def test_a_secret_without_a_role_says_what_is_missing() -> None:
    job = Job("alpine", [], {}, None, secrets={"TOKEN": "/team/token"})
    with pytest.raises(CouldNotRunError, match="secret TOKEN needs an instance with a role"):
        with_secrets(job, None)


def test_a_registrys_secret_is_for_the_login_and_not_for_the_container() -> None:
    env = {"KEY": "v", "REGISTRY": "user:canary"}
    job = with_secrets(Job("alpine", [], env, None, registry_auth="REGISTRY"), None)
    assert (job.env, job.login) == ({"KEY": "v"}, Login("user", "canary"))


def test_ecr_is_asked_only_for_images_of_ecr() -> None:
    job = Job("ghcr.io/a/b", [], {}, None, registry_auth="ecr")
    with pytest.raises(CouldNotRunError, match="names no ECR registry"):
        with_secrets(job, None)


class CannedAws(Aws):
    """AWS with one answer; keeps the requests."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str | None, object]] = []
        self.endpoints: list[str | None] = []

    def call(
        self,
        service: str,
        action: str,
        region: str | None,
        body: object,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        self.asked.append((service, action, region, body))
        self.endpoints.append(endpoint)
        return self.answer


def test_an_image_of_ecr_gets_its_login_by_the_role() -> None:
    token = base64.b64encode(b"AWS:canary").decode()
    aws = CannedAws({"authorizationData": [{"authorizationToken": token}]})
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app"
    fetch_login = with_secrets(Job(image, [], {}, None), aws).fetch_login
    assert aws.asked == []  # the pull fetches it
    assert fetch_login is not None
    assert fetch_login() == Login("AWS", "canary")
    assert aws.asked == [("ecr", "GetAuthorizationToken", "eu-west-1", {})]
    assert aws.endpoints == ["api.ecr.eu-west-1.amazonaws.com"]


@pytest.mark.parametrize(
    ("place", "asked", "answer"),
    [
        (
            "/team/key",
            ("ssm", "GetParameter", None, {"Name": "/team/key", "WithDecryption": True}),
            {"Parameter": {"Value": "v"}},
        ),
        (
            "arn:aws:ssm:us-east-1:1:parameter/team/key",
            (
                "ssm",
                "GetParameter",
                "us-east-1",
                {"Name": "arn:aws:ssm:us-east-1:1:parameter/team/key", "WithDecryption": True},
            ),
            {"Parameter": {"Value": "v"}},
        ),
        (
            "arn:aws:secretsmanager:us-east-1:1:secret:key-AbCdEf",
            (
                "secretsmanager",
                "GetSecretValue",
                "us-east-1",
                {"SecretId": "arn:aws:secretsmanager:us-east-1:1:secret:key-AbCdEf"},
            ),
            {"SecretString": "v"},
        ),
    ],
)
def test_a_secret_is_asked_for_where_it_is_kept(
    place: str, asked: tuple[Any, ...], answer: dict[str, Any]
) -> None:
    aws = CannedAws(answer)
    assert fetch_secret("KEY", place, aws) == "v"
    assert aws.asked == [asked]


def test_a_secret_that_is_no_text_says_so() -> None:
    place = "arn:aws:secretsmanager:us-east-1:1:secret:key-AbCdEf"
    with pytest.raises(CouldNotRunError, match="holds no text"):
        fetch_secret("KEY", place, CannedAws({"SecretBinary": "AA=="}))


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [({"retry_seconds": 2}, 2.0), ({"retry_seconds": 0}, 0.05), (None, 1.0), ({}, 1.0)],
)
def test_how_soon_to_ask_again_is_bounded(answer: object, seconds: float) -> None:
    assert read_wait(answer) == seconds


def test_a_container_that_may_run_on_is_not_reported_as_stopped() -> None:
    outcome = Outcome(None, "the agent lost sight of the container", stopped=False)
    callback = decide_final_callback(None, outcome, [], None)
    assert callback is not None
    assert callback["stopped"] is False


@pytest.mark.parametrize(
    ("pull", "more"),
    [("failed", {"pull_failed": True}), ("refused", {"pull_failed": True, "for_good": True})],
)
def test_a_failed_pull_is_reported_apart(pull: str, more: dict[str, bool]) -> None:
    outcome = Outcome(None, "denied", pull=pull)
    callback = decide_final_callback(None, outcome, [], None)
    assert callback == {"failed": "", "error_message": "denied", **more}
    interrupted = decide_final_callback(INTERRUPTED, outcome, [], None)
    assert interrupted == {"schedule": "", "stopped": True}


def test_an_instance_that_shows_its_role_gets_the_rest_by_the_claim() -> None:
    environment = {
        "DOCKER_JOB_API_URL": "http://x",
        "DOCKER_JOB_MAX_LIFETIME_SECONDS": "60",
        "DOCKER_JOB_IDENTITY": "sts",
    }
    with pytest.raises(ConfigError, match="DOCKER_JOB_DEPLOYMENT is not set"):
        read_config(environment)
    config = read_config({**environment, "DOCKER_JOB_DEPLOYMENT": "ours"})
    assert (config.job_id, config.instance_id, config.identity) == (0, "", "sts")
    assert config.metadata_url == "http://169.254.169.254"
