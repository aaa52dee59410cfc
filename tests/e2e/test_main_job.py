"""The main job, as the README describes it, on the simulated runtime."""

import json
import shutil
import subprocess

import pytest

from tests.support.servers.metadata_service import MetadataService
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl on the PATH")


def curl(*arguments: str) -> str:
    """Return curl's output."""
    run = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=True)
    return run.stdout


def test_the_three_curls_of_the_first_description_work_word_for_word(
    system: EmbeddedSystem,
) -> None:
    block = system.start()
    assert "simulated" in block
    assert json.loads(curl(f"{system.address}/list")) == []
    body = '{ "docker_image": "alpine", "scheduled_for": "10:00", "env_vars": { "KEY": "VALUE" } }'
    job = json.loads(curl("-X", "POST", "-d", body, f"{system.address}/schedule"))
    assert job["status"] == "SCHEDULED"
    assert job["scheduled_for"].endswith("T10:00:00Z")
    shown = json.loads(curl(f"{system.address}/status/{job['id']}"))
    assert shown["env_vars"] == {"KEY": "VALUE"}
    [listed] = json.loads(curl(f"{system.address}/list"))
    assert listed["id"] == job["id"]
    assert listed["spot_instance_request_id"] is None
    assert "images that only the instance's machine has are used" in system.log.read_text()
    assert system.interrupt() == 0


def test_a_job_posted_for_now_is_done_within_five_seconds(system: EmbeddedSystem) -> None:
    system.start()
    job = system.follow(system.schedule(env_vars={"SIMULATE_OUTPUT": "hello"}), seconds=5)
    assert job["status"] == "DONE"
    assert job["exit_code"] == 0
    assert job["runtime"] == "simulated"
    [attempt] = job["attempts"]
    assert attempt["cause"] == "done"
    assert job["spot_instance_request_id"]
    logs = system.http.get(f"/jobs/{job['id']}/logs").text
    assert "hello" in logs.splitlines()
    assert "alpine" in logs, "the simulated runtime logs what it would have run"
    assert "--env DOCKER_JOB_ID --env DOCKER_JOB_NAME --env DOCKER_JOB_ATTEMPT" in logs


def test_what_only_a_role_could_read_is_refused_where_there_is_none(system: EmbeddedSystem) -> None:
    system.start()
    body = {"docker_image": "alpine", "scheduled_for": "now", "secrets": {"DB": "/prod/db"}}
    answer = system.http.post("/schedule", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("secrets needs instances with a role, as on EC2")


def test_a_container_that_fails_fails_its_job_with_its_last_lines(system: EmbeddedSystem) -> None:
    system.start()
    env = {"SIMULATE_EXIT_CODE": "3", "SIMULATE_ERROR": "no such table: users"}
    job = system.follow(system.schedule(env_vars=env))
    assert job["status"] == "FAILED"
    assert job["exit_code"] == 3
    assert "no such table: users" in job["error_message"]


def test_an_interrupted_job_goes_back_to_scheduled_and_runs_again(
    system: EmbeddedSystem, metadata: MetadataService
) -> None:
    system.start(
        AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, DOCKER_JOB_INTERRUPTION_MARGIN_SECONDS="119"
    )
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "3"})
    wait_for_phase(system, job_id, "running")
    metadata.interrupt()
    job = system.follow(job_id)
    assert [each["cause"] for each in job["attempts"]] == ["interrupted", "done"]
    assert job["status"] == "DONE"
    first, second = job["attempts"]
    assert first["interrupted_at"] is not None
    running = next(each for each in second["phases"] if each["phase"] == "running")
    assert running["entered_at"] >= first["ended_at"], "two containers of a job never overlap"
    wait_for_no_agents(system)


def test_a_cancelled_job_stops_its_container(system: EmbeddedSystem) -> None:
    system.start()
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "600"})
    wait_for_phase(system, job_id, "running")
    assert system.http.delete(f"/jobs/{job_id}").json()["status"] == "CANCELLED"
    assert system.http.delete(f"/jobs/{job_id}").status_code == 409
    wait_for_no_agents(system)


def test_a_taken_port_is_one_clear_line(system: EmbeddedSystem) -> None:
    system.start()
    other = EmbeddedSystem()
    other.port = system.port
    with pytest.raises(AssertionError, match=r"Cannot listen on 127\.0\.0\.1 port"):
        other.start()
    other.close()


def wait_for_phase(system: EmbeddedSystem, job_id: int, phase: str) -> None:
    """Wait until the job is in *phase*."""

    def is_there() -> bool:
        job = system.job(job_id)
        assert job["phase"] == phase or job["status"] in ("SCHEDULED", "RUNNING"), job
        return bool(job["phase"] == phase)

    until(is_there, what=f"{job_id} {phase}")


def wait_for_no_agents(system: EmbeddedSystem) -> None:
    """Wait until no agent process is left, zombies included."""
    until(lambda: not system.agents(), what="agents are left")
