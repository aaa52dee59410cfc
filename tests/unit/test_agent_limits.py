"""What a container may use of its machine, and what is said when memory runs out."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.docker_job_agent.decisions import INTERRUPTED, OVER, TIMED_OUT
from agent.docker_job_agent.environment import read_config
from agent.docker_job_agent.grace import grace_seconds
from agent.docker_job_agent.job import Resources, Settings
from agent.docker_job_agent.machine import (
    MIB,
    Limits,
    Machine,
    decide_own_limits,
    decide_shared_limits,
    has_gpus,
    read_machine,
    reserve_bytes,
)
from agent.docker_job_agent.oom import count_kills, note_of_end, set_score
from agent.docker_job_agent.signals import number_of

INFO = {
    "MemTotal": 8 * 1024 * MIB,
    "NCPU": 4,
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsPeriod": True,
    "CpuCfsQuota": True,
}
MACHINE = read_machine(INFO)
ENVIRONMENT = {
    "DOCKER_JOB_API_URL": "http://x",
    "DOCKER_JOB_JOB_ID": "7",
    "DOCKER_JOB_ATTEMPT": "2",
    "DOCKER_JOB_INSTANCE_ID": "i-1",
    "DOCKER_JOB_MAX_LIFETIME_SECONDS": "60",
}


def shared(machine: Machine = MACHINE, **asked: int) -> Limits:
    return decide_shared_limits(Resources(**asked), machine)


# -- the machine


def test_the_engine_says_what_its_machine_has() -> None:
    assert Machine(8 * 1024 * MIB, 4, limits_memory=True, limits_cpus=True) == MACHINE


@pytest.mark.parametrize("info", [None, [], {}, {"message": "denied"}, {"NCPU": "4"}])
def test_an_engine_that_says_nothing_limits_nothing(info: object) -> None:
    assert read_machine(info) == Machine()


def test_the_machine_is_the_instances_own_if_the_agent_powers_it_off() -> None:
    own = ENVIRONMENT | {"DOCKER_JOB_POWER_OFF": "shutdown"}

    assert read_config(own).owns_machine
    assert not read_config(ENVIRONMENT).owns_machine


# -- the limits


@pytest.mark.parametrize(
    ("has_mib", "reserve_mib"),
    [(400, 200), (950, 256), (7_800, 256), (32_000, 960), (380_000, 2048)],
)
def test_a_machine_keeps_a_reserve_for_agent_engine_and_kernel(
    has_mib: int, reserve_mib: int
) -> None:
    assert reserve_bytes(has_mib * MIB) == reserve_mib * MIB


def test_a_container_gets_all_of_its_own_machine_but_the_reserve() -> None:
    asked = Resources(vcpus=1, memory_mib=512)
    limits = decide_own_limits(asked, MACHINE, gpus=False)

    memory = (8 * 1024 - 256) * MIB
    assert limits == Limits(memory_bytes=memory)
    assert limits.host_config() == {"Memory": memory, "MemorySwap": memory}  # and no swap


def test_on_a_shared_engine_a_container_gets_what_the_job_asked_for() -> None:
    limits = shared(vcpus=2, memory_mib=512)

    assert limits == Limits(memory_bytes=512 * MIB, cpus=2)
    assert limits.host_config()["NanoCpus"] == 2_000_000_000


def test_a_job_that_asks_for_nothing_has_no_limit_on_a_shared_engine() -> None:
    assert shared() == Limits()
    assert shared().host_config() == {}


def test_no_engine_takes_less_than_six_mib() -> None:
    assert shared(memory_mib=1).memory_bytes == 6 * MIB


def test_a_job_that_asks_for_more_than_there_is_gets_all_and_is_told() -> None:
    limits = shared(vcpus=8, memory_mib=64_000)

    assert (limits.memory_bytes, limits.cpus) == (8 * 1024 * MIB, 4)
    assert limits.notes == (
        "resources.memory_mib is 64000, this machine has 8192 MiB in all",
        "resources.vcpus is 8, this machine has 4 in all",
    )


def test_an_engine_that_cannot_limit_runs_the_job_without_limits_and_it_is_told() -> None:
    rootless = read_machine(INFO | {"MemoryLimit": False, "CpuCfsQuota": False})
    asked = Resources(vcpus=2, memory_mib=64)

    for limits in (
        decide_own_limits(asked, rootless, gpus=False),
        decide_shared_limits(asked, rootless),
    ):
        assert limits.host_config() == {}
        assert "this engine cannot limit memory" in limits.notes[0]


# -- GPUs


@pytest.mark.parametrize(
    ("asked", "has_some", "runtime", "count"),
    [
        (2, True, True, 2),
        (2, False, False, 2),  # the engine refuses it, in its own words
        (0, True, True, -1),  # a type with GPUs was named, and bought
        (0, True, False, 0),
        (0, False, True, 0),
    ],
)
def test_a_container_gets_the_gpus_that_were_asked_for_or_bought(
    asked: int, count: int, *, has_some: bool, runtime: bool
) -> None:
    machine = read_machine(INFO | {"Runtimes": {"nvidia": {}, "runc": {}} if runtime else None})
    limits = decide_own_limits(Resources(gpus=asked), machine, gpus=has_some)

    requests = [{"Count": count, "Capabilities": [["gpu"]]}] if count else None
    assert limits.host_config().get("DeviceRequests") == requests


def test_on_a_shared_engine_a_job_that_asks_for_no_gpus_gets_none() -> None:
    machine = read_machine(INFO | {"Runtimes": {"nvidia": {}}})

    assert "DeviceRequests" not in shared(machine).host_config()
    assert shared(machine, gpus=1).gpus == 1


def test_the_gpus_of_this_machine_are_those_that_the_driver_shows(tmp_path: Path) -> None:
    assert not has_gpus(str(tmp_path))
    (tmp_path / "proc/driver/nvidia/gpus/0000:00:1e.0").mkdir(parents=True)
    assert has_gpus(str(tmp_path))


# -- out of memory


@pytest.mark.parametrize(
    ("exit_code", "in_container", "note"),
    [
        (137, True, "out of memory: the kernel killed the container (limit 64 MiB)"),
        (3, True, "the kernel killed a process of the container for memory (limit 64 MiB)"),
        (0, True, "the kernel killed a process of the container for memory (limit 64 MiB)"),
        (137, False, ""),  # `docker kill`
        (3, False, ""),
    ],
)
def test_out_of_memory_takes_the_containers_own_cgroup_and_the_exit_code(
    exit_code: int, note: str, *, in_container: bool
) -> None:
    found = note_of_end(exit_code, 64 * MIB, in_container=in_container, in_machine=0)

    assert found == note


def test_a_kill_by_the_machine_s_kernel_is_said_as_far_as_it_is_known() -> None:
    note = note_of_end(137, 64 * MIB, in_container=False, in_machine=2)

    assert note.startswith("killed, perhaps for memory: the container was within its own limit")
    assert "killed 2 processes" in note
    assert note_of_end(1, 64 * MIB, in_container=False, in_machine=2) == ""


def test_without_a_limit_it_is_the_machine_s_memory_that_ran_out() -> None:
    note = note_of_end(137, 0, in_container=True, in_machine=0)

    assert "no limit of its own, the machine's memory ran out" in note


def test_the_kernel_s_count_of_kills_is_read(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 12\noom_kill 7\noom_kill_x 9\n")

    assert count_kills(str(vmstat)) == 7
    assert count_kills(str(tmp_path / "none")) == 0


def test_a_preference_is_set_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    set_score(-900, proc=str(tmp_path))
    set_score(-900, pid="gone", proc=str(tmp_path))

    assert (tmp_path / "self" / "oom_score_adj").read_text() == "-900"


# -- the stop


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("SIGINT", 2), ("SIGRTMIN+3", 37), ("SIGRTMAX-1", 63), ("SIGFOO", 15)],
)
def test_signals_have_numbers(name: str, number: int) -> None:
    assert number_of(name) == number


@pytest.mark.parametrize(
    ("grace", "margin", "cause", "seconds"),
    [
        (10, 30, INTERRUPTED, 10),
        (60, 80, INTERRUPTED, 60),
        (600, 110, INTERRUPTED, 100),  # the instance is reclaimed
        (600, 110, OVER, 600),
        (600, 110, TIMED_OUT, 600),
        (10, 9, INTERRUPTED, 6),
        (0, 30, INTERRUPTED, 0),
    ],
)
def test_the_grace_is_the_job_s_as_far_as_the_notice_allows(
    grace: float, margin: float, cause: str, seconds: float
) -> None:
    settings = Settings(stop_grace_seconds=grace, interruption_margin_seconds=margin)

    assert grace_seconds(settings, cause) == seconds
