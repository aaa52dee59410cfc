"""Saved with jobs in flight, lost, restored: every job that the backup knows ends consistently.

`make restore-test`. The story is the same embedded and under compose; what differs is how a system
is saved, stopped and restored, and what an instance is.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from operations.resend import JOB_IDS_LEFT_OUT
from tests.support.systems.api_client import ApiClient
from tests.support.systems.compose_cloud import CLOUD, living, run_script
from tests.support.systems.compose_project import (
    OURS,
    BuiltClone,
    ComposeProject,
    compose_project,
)
from tests.support.systems.embedded_system import ROOT, EmbeddedSystem
from tests.support.waiting import until

LONG = {"SIMULATE_SECONDS": "600"}
TERMINATED_SECONDS = 150
"""The launcher's watermark trails by a minute, and the reaper trusts nothing younger."""


class Before:
    """Jobs that the backup has, and jobs that it has not."""

    def __init__(self, system: ApiClient) -> None:
        self._system = system
        self.done = system.schedule(env_vars={"SIMULATE_OUTPUT": "hello"})
        assert system.follow(self.done)["status"] == "DONE"
        self.running = system.schedule(env_vars=LONG)
        self.waiting = system.schedule("+3d")
        wait_for_status(system, self.running, "RUNNING")
        self.lost: list[int] = []

    def go_on(self) -> None:
        """Simulate events after the backup."""
        self._system.http.delete(f"/jobs/{self.waiting}")
        self.lost = [self._system.schedule(env_vars=LONG) for _ in range(2)]
        for each in self.lost:
            wait_for_status(self._system, each, "RUNNING")

    def check(self) -> None:
        """Check after the restore that the backup's jobs are as they were, and continue."""
        system = self._system
        assert system.job(self.done)["status"] == "DONE"
        assert "hello" in system.http.get(f"/jobs/{self.done}/logs").text
        assert system.job(self.waiting)["status"] == "SCHEDULED", "its cancellation came later"
        assert {system.http.get(f"/status/{each}").status_code for each in self.lost} == {404}
        job = system.job(self.running)
        assert (job["status"], len(job["attempts"])) == ("RUNNING", 1), "its agent never noticed"
        new = system.schedule()
        assert new > max(self.lost) + JOB_IDS_LEFT_OUT // 2, "no id means two jobs"
        assert system.follow(new)["status"] == "DONE"
        assert system.http.delete(f"/jobs/{self.running}").json()["status"] == "CANCELLED"


def wait_for_status(system: ApiClient, job_id: int, status: str) -> None:
    """Wait until the job is in *status*."""
    until(lambda: system.job(job_id)["status"] == status, what=f"{job_id} {status}")


def backup(system: EmbeddedSystem, command: str, file: Path) -> str:
    """Run `python -m embedded.backup`; return its output."""
    return run_module(system, "embedded.backup", command, str(file))


def run_module(system: EmbeddedSystem, *arguments: str) -> str:
    """Run a module on the system's data; return its output."""
    env = {**os.environ, "DOCKER_JOB_DATA_DIR": str(system.data_dir / "data")}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "hangs", [False, pytest.param(True, marks=pytest.mark.campaign)], ids=["all end", "one hangs"]
)
def test_an_embedded_system_is_saved_while_it_runs_and_restored_after_it_was_lost(
    tmp_path: Path, *, hangs: bool
) -> None:
    system = EmbeddedSystem(
        RUNTIME="simulated",
        HEARTBEAT_SECONDS="1",
        REAP_WATCH_SECONDS="0.5",
        REAP_ORPHAN_SECONDS="2",
    )
    file = tmp_path / "saved"
    try:
        system.start()
        before = Before(system)
        known = set(system.agents())
        assert "saved to" in backup(system, "save", file)
        assert file.stat().st_mode & 0o077 == 0, "the jobs' env_vars are in it"
        before.go_on()
        unknown = set(system.agents()) - known
        assert len(unknown) == len(before.lost)
        refused = backup(system, "restore", file)
        assert "already runs" in refused, "it is not replaced under a running system"
        # An agent is answered that it is unknown, and ends. One that hangs the reaper has to find
        # in the cloud's list alone, for which it waits until the launcher's reports go so far.
        if hangs:
            os.kill(next(iter(unknown)), signal.SIGSTOP)
        system.kill()
        assert "restored; events to be sent again" in backup(system, "restore", file)
        system.start()
        before.check()
        until(lambda: not system.agents(), TERMINATED_SECONDS)
    finally:
        system.close()


def test_what_is_no_backup_is_refused_and_changes_nothing(
    system: EmbeddedSystem, tmp_path: Path
) -> None:
    system.start()
    job_id = system.schedule("+3d")
    system.interrupt()
    file = tmp_path / "no-backup"
    assert f"error: {file} does not exist" in backup(system, "restore", file)
    file.write_text("something else")
    assert "pg_restore: error: input file" in backup(system, "restore", file)
    system.start()
    assert system.job(job_id)["status"] == "SCHEDULED"


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_under_compose_a_project_is_saved_while_it_runs_and_restored(
    clone: BuiltClone, tmp_path: Path
) -> None:
    cloud, file = tmp_path / "cloud.yaml", tmp_path / "saved"
    cloud.write_text(CLOUD)
    settings = {"COMPUTE_URL": "sim://cloud:7000", "HEARTBEAT_SECONDS": "1"}
    with compose_project(clone, cloud, **settings) as project:
        project.up()
        before = Before(project)
        assert "saved to" in run_script(project, "backup.sh", "save", file)
        assert file.stat().st_mode & 0o077 == 0
        before.go_on()
        assert "restored" in run_script(project, "backup.sh", "restore", file)
        before.check()
        # The lost jobs' virtual agents are answered that they are unknown; the reaper ends them.
        until(lambda: living(project) == 0, 2 * TERMINATED_SECONDS)


def test_an_embedded_system_goes_on_with_new_secrets(system: EmbeddedSystem) -> None:
    system.start()
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "8"})
    wait_for_status(system, job_id, "RUNNING")
    file = system.data_dir / "data" / "secrets.json"
    before = json.loads(file.read_text())
    assert "already runs" in run_module(system, "embedded.rotate")
    system.kill()
    assert "rotated" in run_module(system, "embedded.rotate", "--secrets-key")
    after = json.loads(file.read_text())
    assert file.stat().st_mode & 0o077 == 0
    assert after["deployment"] == before["deployment"]
    assert after["token_key"] != before["token_key"]
    assert not set(after["passwords"].values()) & set(before["passwords"].values())
    assert after["secrets_key"].endswith(before.get("secrets_key", ""))
    system.start()
    job = system.follow(job_id)
    assert (job["status"], len(job["attempts"])) == ("DONE", 1)


PASSWORDS = (
    *("postgres/password", "rabbitmq/password"),
    *(f"{service}/{kind}_password" for service in OURS for kind in ("database", "bus")),
)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_every_secret_is_rotated_while_a_job_runs(clone: BuiltClone, tmp_path: Path) -> None:
    cloud = tmp_path / "cloud.yaml"
    cloud.write_text(CLOUD)
    settings = {"COMPUTE_URL": "sim://cloud:7000", "HEARTBEAT_SECONDS": "1"}
    with compose_project(clone, cloud, **settings) as project:
        project.up()
        job_id = project.schedule(env_vars={"SIMULATE_SECONDS": "45"})
        wait_for_status(project, job_id, "RUNNING")
        before = secrets_of(project)
        run_script(project, "rotate.sh", "--token-key")
        after = secrets_of(project)
        same = {name for name, value in after.items() if value == before[name]}
        assert same == {"api/secrets_key"}, "what it has sealed must stay readable"
        assert set(before) - same == {*PASSWORDS, "api/token_key", "launcher/token_key"}
        assert after["api/token_key"] == after["launcher/token_key"]
        assert project.follow(project.schedule(), 60)["status"] == "DONE"
        job = project.follow(job_id, 90)
        assert (job["status"], len(job["attempts"])) == ("DONE", 1)


def secrets_of(project: ComposeProject) -> dict[str, str]:
    """Return every secret, by service and name."""
    shell = "cd /secrets && for f in */*; do echo $f $(cat $f); done"
    output = project.compose(
        "run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "secrets", "-c", shell
    ).stdout
    # What compose says of its build comes on the same stream.
    return dict(re.findall(r"^(\w+/\w+) ([0-9a-f]+)$", output, re.MULTILINE))
