"""What the engine is asked to create for a job."""

from __future__ import annotations

import pytest

from agent.docker_job_agent.container_spec import container_name, container_spec, would_run
from agent.docker_job_agent.environment import Config, SharedEngine, read_config
from agent.docker_job_agent.job import Job, read_claim
from agent.docker_job_agent.network import bridge_name, subnet_of

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


def test_a_job_on_a_shared_engine_has_its_own_network_and_loses_rights_that_none_needs() -> None:
    spec = container_spec(CONFIG._replace(shared_engine=SharedEngine()), a_job())

    assert spec["HostConfig"]["NetworkMode"] == container_name(CONFIG)
    assert spec["HostConfig"]["CapDrop"] == ["NET_RAW", "MKNOD", "AUDIT_WRITE"]


def test_a_job_on_a_machine_of_its_own_has_dockers_network_and_rights() -> None:
    spec = container_spec(CONFIG, a_job())

    assert spec["HostConfig"].keys().isdisjoint({"NetworkMode", "CapDrop"})


@pytest.mark.parametrize(("power_off", "shared"), [("exit", True), ("shutdown", False)])
def test_an_agent_that_may_power_its_machine_off_has_it_alone(
    power_off: str, *, shared: bool
) -> None:
    given = {
        "API_URL": "http://api",
        "JOB_ID": "7",
        "ATTEMPT": "1",
        "INSTANCE_ID": "i-1",
        "MAX_LIFETIME_SECONDS": "60",
        "POWER_OFF": power_off,
    }
    config = read_config({f"DOCKER_JOB_{name}": value for name, value in given.items()})

    assert config.shared_engine == (SharedEngine() if shared else None)


def test_a_bridge_has_a_name_that_linux_takes_and_that_says_what_its_job_may_reach() -> None:
    closed, open_ = (bridge_name("i-1", host_services=given) for given in (False, True))

    assert len(closed) == 15
    assert closed.startswith("djk")
    assert open_.startswith("dj")
    assert not open_.startswith("djk")


def test_each_try_is_for_another_subnet_of_the_pool() -> None:
    tries = {subnet_of("10.0.0.0/20", "i-1", number) for number in range(64)}

    assert len(tries) > 50
    assert all(each.startswith("10.0.") and each.endswith("/28") for each in tries)
    assert subnet_of("10.0.0.0/28", "i-1", 5) == "10.0.0.0/28"


@pytest.mark.parametrize("pool", ["10.0.0.0/29", "10.0.0.1/16", "fd00::/64", "nonsense"])
def test_a_pool_without_room_for_a_subnet_is_refused(pool: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        subnet_of(pool, "i-1", 0)
