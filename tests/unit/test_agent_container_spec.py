"""What the engine is asked to create for a job."""

from __future__ import annotations

import pytest

from agent.docker_job_agent.container_spec import container_name, container_spec, would_run
from agent.docker_job_agent.environment import Config
from agent.docker_job_agent.job import Job, read_claim

CONFIG = Config(
    api_url="http://api",
    job_id=7,
    attempt=2,
    instance_id="i-1/:b",
    deployment="ours",
    runtime="docker",
    metadata_url=None,
    terminate_grace_seconds=5.0,
)


def a_job(**given: object) -> Job:
    job, _ = read_claim({"job": {"docker_image": "alpine", **given}})
    return job


def test_a_container_has_the_instances_name_in_dockers_characters() -> None:
    assert container_name(CONFIG) == "docker-job-i-1--b"


def test_a_container_is_labelled_and_bounded_and_keeps_no_log() -> None:
    spec = container_spec(CONFIG, a_job())

    assert spec["Labels"] == {
        "docker-job.deployment": "ours",
        "docker-job.job": "7",
        "docker-job.attempt": "2",
        "docker-job.instance": "i-1/:b",
    }
    assert spec["HostConfig"]["LogConfig"] == {"Type": "none"}
    assert spec["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert spec["HostConfig"]["PidsLimit"] == 4096
    assert "DeviceRequests" not in spec["HostConfig"]


def test_values_of_variables_are_taken_as_they_are() -> None:
    spec = container_spec(CONFIG, a_job(env_vars={"KEY": "-----BEGIN-----\r\na=b\n", "EMPTY": ""}))

    assert spec["Env"] == ["KEY=-----BEGIN-----\r\na=b\n", "EMPTY="]


@pytest.mark.parametrize(
    ("entrypoint", "sent"),
    [([], [""]), (["sh"], ["sh"]), (["sh", "-c", "a b"], ["sh", "-c", "a b"])],
)
def test_an_entrypoint_replaces_the_images_also_an_empty_one(
    entrypoint: list[str], sent: list[str]
) -> None:
    spec = container_spec(CONFIG, a_job(entrypoint=entrypoint, command=["run"]))

    assert (spec["Entrypoint"], spec["Cmd"]) == (sent, ["run"])


def test_without_entrypoint_and_command_the_image_has_its_own() -> None:
    spec = container_spec(CONFIG, a_job())

    assert "Entrypoint" not in spec
    assert "Cmd" not in spec


def test_gpus_are_as_many_as_the_job_asked_for() -> None:
    spec = container_spec(CONFIG, a_job(gpus=2))

    assert spec["HostConfig"]["DeviceRequests"] == [{"Count": 2, "Capabilities": [["gpu"]]}]


def test_what_would_run_names_variables_without_their_values() -> None:
    job = a_job(
        env_vars={"KEY": "canary"}, entrypoint=["sh", "-c"], command=["a b"], docker_image="img"
    )

    assert would_run(CONFIG, job) == [
        *("docker", "run", "--name", container_name(CONFIG), "--entrypoint", "sh"),
        *("--env", "KEY", "img", "-c", "a b"),
    ]
