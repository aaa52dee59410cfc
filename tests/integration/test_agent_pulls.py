"""Pulls by a real engine from a small registry of our own, which is slow, away or wants a login."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import tokens
from tests.integration.conftest import migrated_database
from tests.integration.test_agent import AgentProcess, FakeApi
from tests.integration.test_agent_docker import SHELL_IMAGE, docker, running_docker
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY
from tests.support.api.served_world import ServedWorld, served_world
from tests.support.servers.slow_registry import ARCHITECTURES, PRINTED, SlowRegistry
from tests.support.waiting import until

LOGIN = "robot:login-canary"


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if shutil.which("docker") is None or docker("version").returncode != 0:
        pytest.skip("no Docker engine answers on this machine")
    if platform.machine() not in ARCHITECTURES:
        pytest.skip("the image of the tests has no program for this machine")


@pytest.fixture
def registry() -> Iterator[SlowRegistry]:
    made = SlowRegistry()
    with made.serving():
        yield made
    docker("image", "rm", "--force", made.image)


def an_api(registry: SlowRegistry, **settings: float) -> FakeApi:
    """Make an API whose job runs the registry's image."""
    api = FakeApi(docker_image=registry.image)
    api.settings |= {"local_images": False, "pull_retry_seconds": 0, **settings}
    return api


def details(api: FakeApi) -> list[str]:
    return [call.body["detail"] for call in api.of("report") if "detail" in call.body]


def test_a_pull_that_drips_is_alive_and_shows_how_far_it_is(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    registry.pause_seconds = 0.03  # three seconds in all
    api = an_api(registry, pull_silence_seconds=1)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.phases == ["pulling", "running"]
    assert api.lines("stdout") == [PRINTED]
    shown = [each for each in details(api) if each.startswith("pulling ")]
    assert len(shown) >= 3
    assert all(each.endswith(" of 3.0 MB, 0 of 1 layers") for each in shown)
    assert len(shown) == len(set(shown))


@dataclass
class At:
    """API at an address."""

    url: str


@pytest.fixture(scope="module")
def served_often(postgres_server: str, template_database: str) -> Iterator[ServedWorld]:
    """Serve the real API, which wants a heartbeat five times a second."""
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(
            database, HEARTBEAT_SECONDS="0.2", LOCAL_IMAGES="no", COMPUTE_URL="process://"
        ) as served,
    ):
        yield served


def test_the_real_api_shows_how_far_a_pull_is_until_the_container_runs(
    registry: SlowRegistry, served_often: ServedWorld, tmp_path: Path
) -> None:
    registry.pause_seconds = 0.05
    world, do = served_often.world, served_often.do
    job_id = do(world.post(docker_image=registry.image))["id"]
    do(world.deliver(world.launched(job_id)))
    token = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, 1)
    env = {"DOCKER_JOB_JOB_ID": str(job_id), "DOCKER_JOB_BOOTSTRAP_TOKEN": token}
    env |= {"DOCKER_JOB_INSTANCE_ID": f"i-{job_id}-1", "DOCKER_JOB_RUNTIME": "docker"}
    agent = AgentProcess(At(served_often.base_url), tmp_path / "i", **env)
    shown: set[tuple[str, str | None]] = set()

    def has_finished() -> bool:
        job = do(world.status(job_id))
        assert job["attempts"][0]["phase_detail"] == job["phase_detail"]
        shown.add((job["phase"], job["phase_detail"]))
        return job["status"] not in ("SCHEDULED", "RUNNING")

    try:
        until(has_finished, 60)
        assert agent.wait() == 0
    finally:
        agent.process.kill()
    assert PRINTED in do(world.logs(job_id))
    pulling = {detail for phase, detail in shown if phase == "pulling" and detail}
    assert any(re.fullmatch(r"pulling \d\.\d of 3\.0 MB, 0 of 1 layers", each) for each in pulling)
    assert {detail for phase, detail in shown if phase != "pulling"} == {None}


@pytest.mark.parametrize("where", ["/v2/", "/manifests/", "/blobs/"])
def test_a_pull_that_hangs_ends(registry: SlowRegistry, tmp_path: Path, where: str) -> None:
    registry.hangs_at = where
    api = an_api(registry, pull_silence_seconds=0.5)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    message = "the pull made no progress for 0.5 seconds"
    assert api.callbacks == [{"failed": "", "error_message": message, "pull_failed": True}]


def test_a_pull_has_a_limit_however_fast_it_is(registry: SlowRegistry, tmp_path: Path) -> None:
    registry.pause_seconds = 0.1
    api = an_api(registry, pull_timeout_seconds=1)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [reported] = api.callbacks
    assert reported["error_message"] == "the pull took longer than 1 seconds"
    assert "for_good" not in reported


def test_a_registry_that_is_away_for_a_while_costs_no_attempt(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    registry.away = True
    api = an_api(registry, pull_retry_seconds=60)
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "trying again" in "".join(details(api)))
        registry.away = False
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.lines("stdout") == [PRINTED]
    noted = api.lines("docker-job")[0]
    begun = "[docker-job: the registry does not answer: EOF; trying again in "
    assert noted in (f"{begun}1 s]", f"{begun}2 s]")


@pytest.mark.parametrize(
    ("error", "for_good"),
    [
        ((404, "MANIFEST_UNKNOWN"), True),
        ((404, "NAME_UNKNOWN"), True),
        ((403, "DENIED"), True),
        ((401, "UNAUTHORIZED"), True),
        ((404, ""), False),  # a proxy's page
        ((403, ""), False),
        ((429, "TOOMANYREQUESTS"), False),
        ((429, ""), False),
        ((500, "UNKNOWN"), False),
        ((503, ""), False),
    ],
)
def test_what_the_registry_says_is_for_good_and_what_others_say_is_not(
    registry: SlowRegistry, tmp_path: Path, error: tuple[int, str], *, for_good: bool
) -> None:
    registry.error = error
    api = an_api(registry)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [reported] = api.callbacks
    assert reported["pull_failed"] is True
    assert reported.get("for_good", False) is for_good, reported


def test_an_image_for_other_machines_is_refused_for_good(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    registry.other_platform = True
    api = an_api(registry, pull_retry_seconds=60)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [reported] = api.callbacks
    assert str(reported["error_message"]).startswith("no matching manifest for linux/")
    assert reported["for_good"] is True
    assert api.lines("docker-job") == []


def test_without_a_tag_one_image_is_pulled_and_by_its_digest_the_same(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    name = registry.image.removesuffix(":1")
    for number, image in enumerate([name, f"{name}:1@{registry.manifest.digest}"]):
        api = an_api(registry)
        api.job["docker_image"] = image
        with running_docker(api, tmp_path / str(number)) as agent:
            assert agent.wait() == 0
        assert api.callbacks == [{"exit_code": 0}], image
    docker("image", "rm", "--force", f"{name}:latest", f"{name}@{registry.manifest.digest}")

    assert not [each for each in registry.requests if "/tags/" in each]


def test_the_jobs_login_opens_a_registry_and_is_written_nowhere(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    registry.login = LOGIN
    api = an_api(registry)
    api.job |= {"secret_env": {"REGISTRY": LOGIN}, "registry_auth": "REGISTRY"}
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert "canary" not in agent.log


def test_a_refused_login_says_who_refuses_it_and_quotes_no_password(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    registry.login = "robot:another"
    api = an_api(registry, pull_retry_seconds=60)
    api.job |= {"secret_env": {"REGISTRY": LOGIN}, "registry_auth": "REGISTRY"}
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [reported] = api.callbacks
    message = str(reported["error_message"])
    assert message == f"{registry.host} refuses the login of this job: unauthorized"
    assert reported["for_good"] is True
    assert "canary" not in message + agent.log


def test_the_machines_own_login_is_that_of_dockers_client(
    registry: SlowRegistry, tmp_path: Path
) -> None:
    registry.login = LOGIN
    auth = base64.b64encode(LOGIN.encode()).decode()
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    api = an_api(registry)
    with running_docker(api, tmp_path / "i", DOCKER_CONFIG=str(config)) as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]


def test_a_cancel_stops_a_pull_at_once(registry: SlowRegistry, tmp_path: Path) -> None:
    registry.pause_seconds = 1.0
    api = an_api(registry)
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: [each for each in details(api) if each.startswith("pulling ")])
        api.change(over=True)
        assert agent.wait() == 0
        until(registry.cut.is_set, 15, "the engine goes on pulling")

    assert api.callbacks == []


@pytest.mark.parametrize("allowed", [True, False])
def test_an_image_that_only_this_machine_has_is_used_where_that_is_allowed(
    tmp_path: Path, *, allowed: bool
) -> None:
    if docker("image", "inspect", SHELL_IMAGE).returncode != 0:
        pytest.skip(f"the Docker engine has no {SHELL_IMAGE}")
    image = f"127.0.0.1:9/docker-job-test/local:{os.getpid()}"
    docker("tag", SHELL_IMAGE, image)
    api = FakeApi(docker_image=image, command=["echo", "ran"])
    api.settings |= {"local_images": allowed, "pull_retry_seconds": 60 if allowed else 0}
    try:
        with running_docker(api, tmp_path / "i") as agent:
            assert agent.wait() == 0
    finally:
        docker("image", "rm", image)

    if allowed:
        assert api.callbacks == [{"exit_code": 0}]
        assert api.lines("docker-job") == []  # at once, though another try might have helped
        assert "the image of this machine is used" in agent.log
    else:
        [reported] = api.callbacks
        assert reported["pull_failed"] is True
        assert "this machine has such an image" in str(reported["error_message"])
