"""The agent under a notice within the first hour, which EC2 bills if anyone else ends the instance.

The API and the metadata service before it are those of test_agent.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_agent import AgentProcess, FakeApi, FakeMetadata, running
from tests.support.waiting import until

MARGIN = 30.0
LATE = 30.0


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    metadata = FakeMetadata()
    with metadata.serving():
        yield metadata


@pytest.fixture
def api() -> FakeApi:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    api.settings["free_if_interrupted_within_seconds"] = 600
    return api


def endpoint(metadata: FakeMetadata) -> dict[str, str]:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}


def waits(agent: AgentProcess) -> list[float]:
    """Return how long the agent has begun to wait for EC2, in seconds."""
    logged = [json.loads(line) for line in agent.log.splitlines()]
    return [each["seconds"] for each in logged if each["event"].startswith("waiting for EC2")]


def until_waiting(agent: AgentProcess) -> float:
    until(lambda: waits(agent), 20, "the wait for EC2")
    return waits(agent)[0]


def test_after_its_callback_the_agent_waits_for_ec2_and_sigterm_ends_that(
    tmp_path: Path, api: FakeApi, metadata: FakeMetadata
) -> None:
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        api.wait_for(lambda: "running" in api.phases)
        metadata.give_notice(seconds=MARGIN + 1.5)
        seconds = until_waiting(agent)
        assert 40 < seconds <= MARGIN + LATE + 1.5
        assert api.callbacks[-1]["stopped"] is True  # the replacement need not wait for that
        assert agent.children() == []
        agent.process.terminate()
        assert agent.wait() == 0
    assert agent.reason.startswith("final callback schedule/stopped")


def test_a_job_that_is_done_under_notice_is_free_too(
    tmp_path: Path, metadata: FakeMetadata
) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "1"})
    api.settings["free_if_interrupted_within_seconds"] = 600
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        api.wait_for(lambda: "running" in api.phases)
        metadata.give_notice(seconds=110)
        assert until_waiting(agent) > 100
        assert api.callbacks[-1] == {"exit_code": 0}
        agent.process.terminate()
        assert agent.wait() == 0


@pytest.mark.parametrize("left", [None, 0, 20])
def test_it_does_not_wait_where_that_saves_nothing(
    tmp_path: Path, api: FakeApi, metadata: FakeMetadata, left: float | None
) -> None:
    """Covers an API of an earlier release, another compute, and an hour that ends sooner."""
    del api.settings["free_if_interrupted_within_seconds"]
    if left is not None:
        api.settings["free_if_interrupted_within_seconds"] = left
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        api.wait_for(lambda: "running" in api.phases)
        metadata.give_notice(seconds=MARGIN + 1)
        assert agent.wait() == 0
    assert waits(agent) == []
    assert api.callbacks[-1]["stopped"] is True


def test_without_a_notice_it_ends_at_once(tmp_path: Path, metadata: FakeMetadata) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "0.2"})
    api.settings["free_if_interrupted_within_seconds"] = 600
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        assert agent.wait() == 0
    assert waits(agent) == []


def test_the_maximum_lifetime_ends_the_wait(
    tmp_path: Path, api: FakeApi, metadata: FakeMetadata
) -> None:
    lifetime = {"DOCKER_JOB_MAX_LIFETIME_SECONDS": "5"}
    with running(api, tmp_path / "i", **endpoint(metadata), **lifetime) as agent:
        api.wait_for(lambda: "running" in api.phases)
        metadata.give_notice(seconds=MARGIN + 1)
        until_waiting(agent)
        assert agent.wait() == 0
    assert agent.reason == "maximum lifetime"


def test_an_agent_without_a_job_yet_waits_too(tmp_path: Path, metadata: FakeMetadata) -> None:
    """Covers a replacement whose own instance is interrupted before its turn."""
    api = FakeApi()
    left = {"free_if_interrupted_within_seconds": 600}
    wait = {"wait": "not its turn", "retry_seconds": 0.05, "settings": left}
    api.pages["claim"] = [(202, json.dumps(wait))]
    api.first_answers["claim"] = [409]
    metadata.give_notice(seconds=60)
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        assert 80 < until_waiting(agent) <= 60 + LATE
        assert api.of("claim")[-1].body["interrupted"] is True
        agent.process.terminate()
        assert agent.wait() == 0
    assert agent.reason == "the claim was refused with status 409"


OVER = {
    "message": "attempt 1 is over: interrupted",
    "stop": True,
    "cause": "interrupted",
    "settings": {"free_if_interrupted_within_seconds": 600},
}


def test_a_first_claim_that_is_refused_for_a_notice_waits_for_ec2(
    tmp_path: Path, metadata: FakeMetadata
) -> None:
    api = FakeApi()
    api.pages["claim"] = [(409, json.dumps(OVER))]
    metadata.give_notice(seconds=60)
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        assert 80 < until_waiting(agent) <= 60 + LATE
        agent.process.terminate()
        assert agent.wait() == 0


def test_a_notice_that_the_api_knows_first_is_waited_for(
    tmp_path: Path, metadata: FakeMetadata
) -> None:
    api = FakeApi()
    api.pages["claim"] = [(409, json.dumps(OVER))]
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        until(lambda: not api.pages["claim"], 20, "the claim")
        metadata.give_notice(seconds=60)
        assert 60 < until_waiting(agent) <= 60 + LATE
        agent.process.terminate()
        assert agent.wait() == 0


@pytest.mark.parametrize("cause", ["cancelled", None])
def test_an_attempt_that_is_over_for_another_cause_ends_at_once(
    tmp_path: Path, metadata: FakeMetadata, cause: str | None
) -> None:
    api = FakeApi()
    api.pages["claim"] = [(409, json.dumps({**OVER, "cause": cause}))]
    with running(api, tmp_path / "i", **endpoint(metadata)) as agent:
        assert agent.wait() == 0
    assert waits(agent) == []
