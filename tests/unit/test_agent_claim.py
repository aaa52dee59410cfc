"""The agent's claim and its configuration: the pure parts."""

import pytest

from agent.docker_job_agent.claim import MOST_REFUSAL, NoticeCheck, refusal, with_attempt
from agent.docker_job_agent.environment import Config, read_config
from agent.docker_job_agent.errors import ConfigError, CouldNotRunError, UnreachableError
from agent.docker_job_agent.http_client import Answer, Http
from agent.docker_job_agent.metadata import Metadata

ENVIRONMENT = {
    "DOCKER_JOB_API_URL": "http://x",
    "DOCKER_JOB_JOB_ID": "7",
    "DOCKER_JOB_ATTEMPT": "2",
    "DOCKER_JOB_INSTANCE_ID": "i-1/ä b",
    "DOCKER_JOB_DEPLOYMENT": "ours",
    "DOCKER_JOB_MAX_LIFETIME_SECONDS": "60",
}


class CannedHttp(Http):
    """A server with one answer for each request, in order; keeps the requests."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str]] = []

    def request(
        self, method: str, path: str, headers: dict[str, str], body: object = None
    ) -> Answer:
        self.requests.append((method, path))
        answer = self.answers.pop(0)
        if answer is None:
            raise UnreachableError
        return answer


def config() -> Config:
    return read_config(ENVIRONMENT)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            '{"message": "the claim is for another deployment"}',
            "the claim is for another deployment",
        ),
        ('{"message": 7}', ""),
        ("[]", ""),
        ("<html>", ""),
        ('{"message": "' + "x" * 1000 + '"}', "x" * MOST_REFUSAL),
    ],
)
def test_a_refused_claim_is_logged_in_the_apis_words_if_it_has_any(body: str, words: str) -> None:
    assert refusal(Answer(401, body)) == words


def test_the_configuration_has_defaults_for_what_is_optional() -> None:
    read = config()

    assert (read.job_id, read.attempt, read.instance_id) == (7, 2, "i-1/ä b")
    assert (read.runtime, read.identity, read.metadata_url) == ("auto", "token", None)
    assert read.terminate_grace_seconds == 5.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RUNTIME", "podman", "RUNTIME is none of docker, simulated, auto"),
        ("IDENTITY", "me", "IDENTITY is none of token, sts"),
        ("ATTEMPT", "two", "ATTEMPT is not a number"),
        ("TERMINATE_GRACE_SECONDS", "long", "TERMINATE_GRACE_SECONDS is not a number"),
        ("MAX_LIFETIME_SECONDS", "", "MAX_LIFETIME_SECONDS is not set"),
        ("API_URL", "api:8000", "API_URL is no URL like http://api:8000"),
        ("API_URL", "http://[::1", "API_URL is no URL like http://api:8000"),
        ("API_URL", "http://api:port", "API_URL is no URL like http://api:8000"),
        ("API_URL", "http://me:hush@api", "API_URL has a login, which the agent would not send"),
        ("API_URL", "http://api?a", "API_URL has a query or fragment: it must end with its path"),
    ],
)
def test_an_invalid_variable_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^DOCKER_JOB_{message}$"):
        read_config({**ENVIRONMENT, f"DOCKER_JOB_{name}": value})


def test_the_claims_answer_names_the_attempt_of_an_instance_with_a_role() -> None:
    named = with_attempt(config(), {"job": {"id": 9}, "attempt": 3, "instance_id": "i-2"})

    assert named == config()._replace(job_id=9, attempt=3, instance_id="i-2")


@pytest.mark.parametrize("answer", [None, [], {}, {"job": {"id": 9}}, {"job": None, "attempt": 1}])
def test_an_answer_that_names_no_attempt_cannot_run(answer: object) -> None:
    with pytest.raises(CouldNotRunError, match="does not name its attempt"):
        with_attempt(config(), answer)


def test_an_expired_metadata_token_is_renewed_once() -> None:
    http = CannedHttp(
        Answer(200, "t1"), Answer(401, ""), Answer(200, "t2"), Answer(200, "text"), Answer(404, "")
    )
    metadata = Metadata(http)

    assert metadata.get("/path") == "text"
    assert metadata.get("/none") is None
    assert http.requests == [
        ("PUT", Metadata.TOKEN_PATH),
        ("GET", "/path"),
        ("PUT", Metadata.TOKEN_PATH),
        ("GET", "/path"),
        ("GET", "/none"),
    ]


def test_a_waiting_instance_polls_for_its_notice_every_few_seconds_at_most() -> None:
    http = CannedHttp(Answer(200, "t"), Answer(404, ""))
    check = NoticeCheck(Metadata(http))
    check.poll()
    check.poll()

    assert not check.seen
    assert len(http.requests) == 2


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([Answer(200, "t"), Answer(200, '{"action": "terminate"}')], True),
        ([Answer(200, "t"), Answer(200, "<html>")], False),
        ([None], False),
    ],
)
def test_a_waiting_instance_sees_its_notice(answers: list[Answer | None], *, seen: bool) -> None:
    check = NoticeCheck(Metadata(CannedHttp(*answers)))
    check.poll()

    assert check.seen is seen


def test_without_a_metadata_service_there_is_no_notice() -> None:
    check = NoticeCheck(None)
    check.poll()

    assert not check.seen
