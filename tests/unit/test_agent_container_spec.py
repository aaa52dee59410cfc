"""What the engine is asked to create for a job."""

from __future__ import annotations

import pytest

from agent.docker_job_agent.container_spec import (
    container_name,
    container_spec,
    explain_gpus,
    would_run,
)
from agent.docker_job_agent.environment import Config, SharedEngine, read_config
from agent.docker_job_agent.image import Image, read_image, stop_signal_of, wants_init
from agent.docker_job_agent.job import Job, Settings, read_claim
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


def test_what_would_run_names_variables_without_their_values() -> None:
    job = a_job(
        env_vars={"KEY": "canary"}, entrypoint=["sh", "-c"], command=["a b"], docker_image="img"
    )

    assert would_run(CONFIG, job) == [
        *("docker", "run", "--name", container_name(CONFIG), "--entrypoint", "sh"),
        *("--env", "KEY", "img", "-c", "a b"),
    ]


def test_a_container_is_the_first_to_die_when_memory_runs_out() -> None:
    assert container_spec(CONFIG, a_job())["HostConfig"]["OomScoreAdj"] == 800


def test_what_the_job_says_of_its_container_goes_to_the_engine() -> None:
    job = a_job(
        user="1000:1000",
        working_dir="/data",
        shm_size_mib=256,
        init=False,
        stop_signal="SIGINT",
        read_only=True,
    )
    spec = container_spec(CONFIG, job, Settings(stop_grace_seconds=1.5))

    assert (spec["User"], spec["WorkingDir"]) == ("1000:1000", "/data")
    assert (spec["StopSignal"], spec["StopTimeout"]) == ("SIGINT", 2)
    assert spec["HostConfig"]["ShmSize"] == 256 * 1024 * 1024
    assert spec["HostConfig"]["Init"] is False
    assert spec["HostConfig"]["ReadonlyRootfs"] is True
    assert spec["HostConfig"]["Tmpfs"] == {"/tmp": "exec,mode=1777"}


def test_what_a_job_does_not_say_is_left_to_the_image_and_the_engine() -> None:
    spec = container_spec(CONFIG, a_job())

    assert not {"User", "WorkingDir", "StopSignal"} & spec.keys()
    host = spec["HostConfig"]
    assert not {"ShmSize", "ReadonlyRootfs", "Tmpfs", "Memory", "NanoCpus"} & host.keys()
    assert host["Init"] is True


def test_the_images_own_stop_signal_is_obeyed_unless_the_job_has_one() -> None:
    image = Image(stop_signal="SIGQUIT")

    assert stop_signal_of(a_job(), image) == "SIGQUIT"
    assert stop_signal_of(a_job(stop_signal="SIGINT"), image) == "SIGINT"


@pytest.mark.parametrize(
    ("entrypoint", "command"),
    [
        (["/init"], []),
        (["/usr/bin/tini", "--"], ["python"]),
        (["dumb-init"], ["sh"]),
        (["/tini-static-arm64", "-s", "--"], []),
        ([], ["/sbin/init"]),
        ([], ["/lib/systemd/systemd"]),
        ([], ["/sbin/my_init"]),
        (["/entrypoint.sh"], ["/init"]),
        (["/bin/sh", "-c", "/init"], []),
        (["/bin/bash", "-ec", "setup && exec /usr/bin/catatonit -- run"], []),
        (["/usr/bin/env", "A=b", "tini", "--"], []),
    ],
)
def test_an_image_with_an_init_of_its_own_gets_no_second_one(
    entrypoint: list[str], command: list[str]
) -> None:
    image = Image(tuple(entrypoint), tuple(command))

    assert wants_init(a_job(), image) is False
    assert wants_init(a_job(init=True), image) is True


@pytest.mark.parametrize(
    ("entrypoint", "command"),
    [
        ([], []),
        ([], ["python", "init"]),
        (["git"], ["init"]),
        (["/bin/terraform"], ["init"]),
        (["/init.sh"], []),
        (["sh", "-c", "echo 'unbalanced"], []),
        (["sh", "-c"], []),
        (["sh", "/init"], []),
        (["/usr/bin/env"], []),
    ],
)
def test_another_image_gets_dockers_init(entrypoint: list[str], command: list[str]) -> None:
    image = Image(tuple(entrypoint), tuple(command))

    assert wants_init(a_job(), image) is True
    assert wants_init(a_job(init=False), image) is False


def test_a_job_that_replaces_entrypoint_or_command_decides_by_its_own() -> None:
    image = Image(("/init",), ("/run",))

    assert wants_init(a_job(entrypoint=["python"]), image) is True
    assert wants_init(a_job(entrypoint=[], command=["python"]), image) is True
    assert wants_init(a_job(command=["python"]), image) is False
    assert wants_init(a_job(entrypoint=["tini"]), Image(("python",))) is False


@pytest.mark.parametrize("inspected", [None, [], {}, {"Config": None}, {"Config": {"Cmd": None}}])
def test_an_image_of_which_nothing_is_known_is_a_plain_one(inspected: object) -> None:
    assert read_image(inspected) == Image()


def test_an_inspected_image_is_read() -> None:
    config = {"Entrypoint": ["/init"], "Cmd": ["run"], "StopSignal": "SIGRTMIN+3"}

    assert read_image({"Config": config}) == Image(("/init",), ("run",), "SIGRTMIN+3")


def test_gpus_without_a_runtime_are_explained() -> None:
    error = 'could not select device driver "" with capabilities: [[gpu]]'

    assert explain_gpus(a_job(gpus=2), error) == (
        "resources.gpus asks for 2, and the engine of this machine has no NVIDIA Container "
        f"Toolkit: {error}"
    )
    assert explain_gpus(a_job(), error) == error


def test_fewer_gpus_than_the_job_asked_for_are_explained() -> None:
    error = "nvidia-container-cli: device error: 1: unknown device: unknown"

    assert explain_gpus(a_job(gpus=2), error) == (
        f"resources.gpus asks for 2, and this machine does not have them: {error}"
    )
    assert explain_gpus(a_job(gpus=2), "no such file: sh") == "no such file: sh"


def test_what_would_run_has_what_the_job_asked_for() -> None:
    job = a_job(
        resources={"vcpus": 2, "memory_mib": 512},
        user="1000",
        working_dir="/data",
        shm_size_mib=64,
        init=False,
        stop_signal="SIGINT",
        read_only=True,
    )
    options = [
        *("--user", "1000", "--workdir", "/data", "--shm-size", "64m", "--stop-signal", "SIGINT"),
        *("--init=false", "--read-only", "alpine"),
    ]

    shared = CONFIG._replace(shared_engine=SharedEngine())
    assert would_run(shared, job)[4:] == ["--memory", "512m", "--cpus", "2", *options]
    assert would_run(CONFIG, job)[4:] == options


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
