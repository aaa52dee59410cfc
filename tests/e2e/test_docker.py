"""The main job with real containers, where a Docker engine answers."""

import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from services.api.jobs.sizes import (
    MAX_EXEC_BYTES,
    MAX_FIELD_BYTES,
    MAX_VARIABLE_BYTES,
    OWN_BYTES,
    STRING_COST,
)
from tests.e2e.test_main_job import wait_for_no_agents, wait_for_phase
from tests.support.servers.metadata_service import MetadataService
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

IMAGES = ("debian:trixie-slim", "python:3.13-slim", "alpine:latest", "busybox:latest")


def docker(*arguments: str) -> str:
    """Return docker's output; empty if it fails."""
    run = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


@pytest.fixture(scope="module")
def image() -> str:
    """Return an image with a shell that this machine's engine has already."""
    if shutil.which("docker") is None or not docker("version", "--format", "{{.Server.Version}}"):
        pytest.skip("needs a Docker engine that answers")
    for name in IMAGES:
        if docker("image", "inspect", "--format", "{{.Id}}", name):
            return name
    pytest.skip(f"needs one of these images on the Docker engine: {', '.join(IMAGES)}")


@pytest.fixture
def system() -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(RUNTIME="docker", HEARTBEAT_SECONDS="1", METADATA_POLL_SECONDS="0.2")
    yield system
    system.close()


def containers_of(job_id: int, system: EmbeddedSystem) -> str:
    """Return the ids of the job's containers, stopped ones too; others may share the engine."""
    deployment = (system.data_dir / "data" / "secrets.json").read_text().split('"')[3]
    return docker(
        "ps", "-aq",
        "--filter", f"label=docker-job.deployment={deployment}",
        "--filter", f"label=docker-job.job={job_id}",
    )  # fmt: skip


def test_a_real_container_runs_prints_and_is_removed(system: EmbeddedSystem, image: str) -> None:
    assert "docker" in system.start()
    command = ["sh", "-c", 'echo "out: $KEY"; echo err >&2']
    job = system.follow(
        system.schedule(docker_image=image, command=command, env_vars={"KEY": "a 'b' #c"})
    )
    assert (job["status"], job["exit_code"], job["runtime"]) == ("DONE", 0, "docker")
    logs = system.http.get(f"/jobs/{job['id']}/logs").text.splitlines()
    assert "out: a 'b' #c" in logs
    assert "err" in logs
    wait_for_no_agents(system)
    assert containers_of(job["id"], system) == ""


def test_a_real_container_knows_its_job(system: EmbeddedSystem, image: str) -> None:
    system.start()
    job = system.follow(
        system.schedule(docker_image=image, command=["env"], name="a name = 'x'", retries=1)
    )
    logs = system.http.get(f"/jobs/{job['id']}/logs").text.splitlines()
    assert {
        f"DOCKER_JOB_ID={job['id']}",
        "DOCKER_JOB_NAME=a name = 'x'",
        "DOCKER_JOB_ATTEMPT=1",
        f"DOCKER_JOB_SCHEDULED_FOR={job['scheduled_for']}",
    } <= set(logs)


def test_a_real_container_that_exits_3_fails_its_job(system: EmbeddedSystem, image: str) -> None:
    system.start()
    command = ["sh", "-c", "echo working; echo 'disk is full' >&2; exit 3"]
    job = system.follow(system.schedule(docker_image=image, command=command))
    assert (job["status"], job["exit_code"]) == ("FAILED", 3)
    assert job["error_message"] == "disk is full"
    wait_for_no_agents(system)
    assert containers_of(job["id"], system) == ""


PEM = "-----BEGIN KEY-----\nbGluZQ==\r\nA=b\n-----END KEY-----\n\n"


def test_values_with_line_breaks_reach_a_real_container_verbatim(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    script = 'for each in "$OPEN" "$SEALED" "$RETURN"; do printf %s "$each" | sha256sum; done'
    values = (PEM, f"{PEM}sealed", "\r")
    job = system.follow(
        system.schedule(
            docker_image=image,
            command=["sh", "-c", script],
            env_vars={"OPEN": values[0], "RETURN": values[2]},
            secret_env={"SEALED": values[1]},
        )
    )
    assert job["status"] == "DONE"
    logs = system.http.get(f"/jobs/{job['id']}/logs").text.splitlines()
    assert logs == [f"{sha256(each.encode()).hexdigest()}  -" for each in values]
    assert job["env_vars"] == {"OPEN": values[0], "RETURN": values[2]}


def test_the_largest_job_that_is_taken_starts(system: EmbeddedSystem, image: str) -> None:
    system.start()
    script = ["sh", "-c", "echo $# ${#1} ${#A} ${#B}", "sh"]
    argument = "x" * (MAX_FIELD_BYTES - len("".join(script)))
    entrypoint = [*script, argument]
    values = "x" * (MAX_VARIABLE_BYTES - 1), "x" * (MAX_FIELD_BYTES - MAX_VARIABLE_BYTES - 1)
    given = OWN_BYTES + MAX_FIELD_BYTES + len(f"A={values[0]}B={values[1]}") + STRING_COST * 7
    empty = (MAX_EXEC_BYTES - given) // STRING_COST
    body: dict[str, Any] = {"docker_image": image, "scheduled_for": "now", "entrypoint": entrypoint}
    body |= {"env_vars": {"A": values[0]}, "secret_env": {"B": values[1]}}
    job = system.follow(system.schedule(**body, command=[""] * empty))
    assert job["status"] == "DONE"
    logs = system.http.get(f"/jobs/{job['id']}/logs").text.splitlines()
    assert logs == [f"{1 + empty} {len(argument)} {len(values[0])} {len(values[1])}"]
    larger = system.http.post("/schedule", json={**body, "command": [""] * (empty + 1)})
    assert (larger.status_code, f"at most {MAX_EXEC_BYTES}" in larger.text) == (400, True)


def test_an_image_that_cannot_be_pulled_fails_its_job_with_the_reason(
    system: EmbeddedSystem, image: str
) -> None:
    system.start(
        DOCKER_JOB_RETRY_FIRST_SECONDS="0.5",
        DOCKER_JOB_PULL_RETRY_SECONDS="0",
        DOCKER_JOB_PULL_BUDGET_SECONDS="0",
    )
    job = system.follow(system.schedule(docker_image="localhost:1/no/such-image:1"))
    assert job["status"] == "FAILED"
    assert job["error_message"] == "the registry does not answer: connection refused"
    assert {each["cause"] for each in job["attempts"]} == {"pull_failed"}
    assert len(job["attempts"]) == 1 + job["budgets"]["pulls"]["allowed"]


def test_an_interrupted_container_is_stopped_before_the_next_one_starts(
    system: EmbeddedSystem, metadata: MetadataService, image: str
) -> None:
    system.start(
        AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, DOCKER_JOB_INTERRUPTION_MARGIN_SECONDS="119"
    )
    job_id = system.schedule(docker_image=image, command=["sleep", "4"])
    wait_for_phase(system, job_id, "running")
    metadata.interrupt()
    job = system.follow(job_id)
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["interrupted", "done"]
    wait_for_no_agents(system)
    assert containers_of(job_id, system) == ""


def test_a_kill_in_the_middle_loses_neither_the_job_nor_its_container(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    job_id = system.schedule(docker_image=image, command=["sh", "-c", "sleep 3; echo survived"])
    wait_for_phase(system, job_id, "running")
    system.kill()
    system.start()
    job = system.follow(job_id)
    assert job["status"] == "DONE"
    assert len(job["attempts"]) == 1, "the agent went on alone, and reported after the restart"
    assert "survived" in system.http.get(f"/jobs/{job_id}/logs").text
    wait_for_no_agents(system)
    assert containers_of(job_id, system) == ""


def test_what_a_cancelled_container_prints_last_is_kept_and_how_it_exits(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    script = 'trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.1; done'
    job_id = system.schedule(docker_image=image, command=["sh", "-c", script])
    wait_for_phase(system, job_id, "running")
    assert system.http.delete(f"/jobs/{job_id}").status_code == 200
    wait_for_no_agents(system)
    job = system.http.get(f"/status/{job_id}").json()
    assert job["status"] == "CANCELLED"
    assert [(each["cause"], each["exit_code"]) for each in job["attempts"]] == [("cancelled", 7)]
    assert system.http.get(f"/jobs/{job_id}/logs").text.splitlines()[-2:] == ["ready", "bye"]
    assert containers_of(job_id, system) == ""


def test_what_a_timed_out_container_prints_last_is_kept_and_how_it_exits(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    script = 'trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.1; done'
    command = ["sh", "-c", script]
    job = system.follow(system.schedule(docker_image=image, command=command, timeout_seconds=1))
    assert (job["status"], job["exit_code"]) == ("FAILED", 7)
    assert job["error_message"] == "timed out after 1 seconds"
    assert [(each["cause"], each["exit_code"]) for each in job["attempts"]] == [("timed_out", 7)]
    assert system.http.get(f"/jobs/{job['id']}/logs").text.splitlines()[-2:] == ["ready", "bye"]


def test_a_log_is_whole_though_nobody_takes_it_while_it_is_printed(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    script = "seq 1 1000; sleep 3; seq 1001 150000; exit 3"
    job_id = system.schedule(docker_image=image, command=["sh", "-c", script])
    wait_for_phase(system, job_id, "running")
    system.kill()
    until(lambda: containers_of(job_id, system) == "")
    system.start()
    job = system.follow(job_id)
    assert (job["status"], job["exit_code"]) == ("FAILED", 3)
    lines = system.http.get(f"/jobs/{job_id}/logs").text.splitlines()
    assert lines == [str(number) for number in range(1, 150_001)]


def test_a_job_s_own_signal_and_grace_outlast_those_of_the_deployment(
    system: EmbeddedSystem, image: str
) -> None:
    system.start(DOCKER_JOB_STOP_GRACE_SECONDS="0")  # the instance could end after 10 s
    script = (
        "trap 'echo saving; sleep 12; echo saved; exit 7' INT; id -u; while :; do sleep 0.1; done"
    )
    fields: dict[str, Any] = {"user": "1000", "stop_signal": "INT", "stop_grace_seconds": 30}
    job_id = system.schedule(docker_image=image, command=["sh", "-c", script], **fields)
    until(lambda: "1000" in system.http.get(f"/jobs/{job_id}/logs").text.splitlines())
    assert system.http.delete(f"/jobs/{job_id}").status_code == 200
    wait_for_no_agents(system)
    job = system.http.get(f"/status/{job_id}").json()
    assert (job["status"], job["exit_code"], job["stop_signal"]) == ("CANCELLED", 7, "SIGINT")
    logs = system.http.get(f"/jobs/{job_id}/logs").text.splitlines()
    assert logs[-2:] == ["saving", "saved"]


def test_a_container_that_uses_up_its_memory_fails_its_job_and_says_so(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    command = ["sh", "-c", "head -c 200000000 /dev/zero | tail -c 200000000 | wc -c; exit 137"]
    resources = {"memory_mib": 32}
    job = system.follow(system.schedule(docker_image=image, command=command, resources=resources))
    note = "out of memory: the kernel killed the container (limit 32 MiB)"
    assert (job["status"], job["exit_code"]) == ("FAILED", 137)
    assert job["error_message"].startswith(note)
    assert f"[docker-job: {note}]" in system.http.get(f"/jobs/{job['id']}/logs").text


def test_a_long_log_is_whole_where_it_fits_and_else_has_its_beginning_and_its_end(
    system: EmbeddedSystem, image: str
) -> None:
    system.start()
    short = system.schedule(docker_image=image, command=["seq", "1", "40000"])
    long = system.schedule(docker_image=image, command=["seq", "1", "300000"])
    for job_id in (short, long):
        assert system.follow(job_id)["status"] == "DONE"
    lines = system.http.get(f"/jobs/{short}/logs").text.splitlines()
    assert lines == [str(number) for number in range(1, 40_001)]
    lines = system.http.get(f"/jobs/{long}/logs").text.splitlines()
    [gap] = [place for place, line in enumerate(lines) if line.startswith("---")]
    assert lines[:gap] == [str(number) for number in range(1, gap + 1)]
    tail = lines[gap + 1 :]
    assert tail == [str(number) for number in range(300_001 - len(tail), 300_001)]
    assert f"--- {300_000 - len(lines) + 1} lines (" in lines[gap]
    assert 900_000 < sum(len(line) + 1 for line in lines) <= 1_048_576 + len(lines[gap]) + 1
