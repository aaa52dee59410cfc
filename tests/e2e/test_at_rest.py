"""What a run leaves on the disk is for its user alone, whatever the umask and whatever was there.

Each test walks the whole data directory and prints what it found open to others.
"""

import json
import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.systems.embedded_system import ROOT, EmbeddedSystem
from tests.support.waiting import until

PASSED_THROUGH = ("", "postgres") if os.geteuid() == 0 else ()
"""As root Postgres is another user's, whose group must pass through these and can list neither."""


def servers_group(data: Path) -> int:
    """Return the group of the user that Postgres runs as."""
    return pwd.getpwuid((data / "postgres/pgdata").stat().st_uid).pw_gid


def opened(directory: Path) -> list[str]:
    """Walk *directory*; return what others can read, write, enter or list."""
    found, count = [], 0
    for path in (directory, *directory.rglob("*")):
        name = str(path.relative_to(directory)).removeprefix(".")
        try:
            found_as = path.lstat()
        except FileNotFoundError:  # of the database, which works
            continue
        count += 1
        mode = stat.S_IMODE(found_as.st_mode)
        passed = name in PASSED_THROUGH and found_as.st_gid == servers_group(directory)
        if mode & 0o077 & ~(0o710 if passed else 0o700):
            found.append(f"{mode:04o} {name}")
    print(f"{len(found)} of {count} files and directories are open to others")
    assert count > 100, "there is a database"
    return found


@pytest.fixture
def loose() -> Iterator[None]:
    """Run the test, and all that it starts, with the umask 000."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def system(loose: None) -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(RUNTIME="simulated")
    yield system
    system.close()


def run_one_job(system: EmbeddedSystem) -> int:
    """Run a job with a secret to its end; return its id."""
    body = {
        "docker_image": "alpine",
        "scheduled_for": "now",
        "env_vars": {"A": "plain"},
        "secret_env": {"B": "sealed"},
    }
    job = int(system.http.post("/schedule", json=body).json()["id"])
    until(lambda: system.http.get(f"/status/{job}").json()["status"] == "DONE", 60)
    return job


def test_nothing_of_a_run_is_open_to_others_with_the_umask_000(system: EmbeddedSystem) -> None:
    system.start()
    run_one_job(system)
    data = system.data_dir / "data"
    names = {each.relative_to(data).parts[0] for each in data.rglob("*")}
    assert names >= {"agent", "instances", "lock", "postgres", "secrets.json"}
    assert opened(data) == [], "while it runs"
    system.kill()
    system.start()
    assert opened(data) == [], "after a kill and another start"
    assert system.interrupt() == 0
    assert opened(data) == [], "after its end"


def test_what_was_left_open_is_closed_at_the_next_start_and_logged(system: EmbeddedSystem) -> None:
    system.start()
    run_one_job(system)
    assert system.interrupt() == 0
    data = system.data_dir / "data"
    closed = [data, data / "secrets.json", data / "postgres/server.log", data / "agent"]
    closed += list((data / "instances").rglob("*"))
    for each in closed:
        each.chmod(0o777 if each.is_dir() else 0o666)
    system.start()
    assert opened(data) == []
    lines = [json.loads(each) for each in system.log.read_text().splitlines() if each[:1] == "{"]
    warned = [each for each in lines if each["event"] == "closed to other users"]
    print(f"{sum(each['paths'] for each in warned)} of {len(closed)} paths were closed and logged")
    assert sum(each["paths"] for each in warned) >= len(closed)
    assert any("secrets.json" in each["first"] for each in warned)


@pytest.mark.skipif(os.geteuid() != 0, reason="as root alone Postgres is another user's")
def test_as_root_a_tree_of_the_release_before_is_closed_to_all_but_the_servers_group(
    system: EmbeddedSystem,
) -> None:
    system.start()
    assert system.interrupt() == 0
    data = system.data_dir / "data"
    for each in (data, data / "postgres"):
        os.chown(each, 0, 0)
        each.chmod(0o711)
    system.start()
    for each in (data, data / "postgres"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o710
        assert each.stat().st_gid == servers_group(data)
    server = psutil.Process(int((data / "postgres/pgdata/postmaster.pid").read_text().split()[0]))
    assert server.uids().real != 0
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert re.search(r"CapEff:\s+0+\n", status), "it needs no capability"
    refused = 0
    stranger = pwd.getpwnam("daemon")
    for name in ("", "secrets.json", "postgres", "postgres/run", "postgres/superuser-password"):
        ran = subprocess.run(
            ["ls" if (data / name).is_dir() else "cat", data / name],
            user=stranger.pw_uid,
            group=stranger.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert b"Permission denied" in ran.stderr
        refused += 1
    print(f"{refused} of 5 reads by another user refused")


@pytest.mark.parametrize("command", ["embedded.run", "embedded.backup"])
def test_a_directory_that_is_shared_with_other_users_is_refused(
    tmp_path: Path, command: str, loose: None
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    more = ["keys", "create", "--name", "me", "--scope", "admin"]
    if command == "embedded.backup":
        more = ["restore", str(tmp_path / "none")]
        (tmp_path / "none").write_text("no backup")
    ran = subprocess.run(
        [sys.executable, "-m", command, *more],
        cwd=ROOT,
        env=os.environ | {"DOCKER_JOB_DATA_DIR": str(shared)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert list(shared.iterdir()) == []
    if command == "embedded.run":
        assert f"{shared} is shared with other users (mode 1777)" in ran.stderr
        assert "DOCKER_JOB_DATA_DIR" in ran.stderr
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_a_backup_is_for_its_owner_alone_with_the_umask_000(system: EmbeddedSystem) -> None:
    system.start()
    file = system.data_dir / "today.backup"
    ran = subprocess.run(
        [sys.executable, "-m", "embedded.backup", "save", str(file)],
        cwd=ROOT,
        env=os.environ | {"DOCKER_JOB_DATA_DIR": str(system.data_dir / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert opened(system.data_dir / "data") == []
