"""deploy/backup.sh on what is no database and no backup: it refuses, and keeps the existing files.

On a project of a Postgres alone; the whole story under compose is in test_restore.py.
"""

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.migrate import migrate_all
from tests.conftest import PASSWORDS
from tests.support.run.ports import free_port
from tests.support.systems.compose_project import docker, what_is_missing
from tests.support.systems.embedded_system import ROOT
from tests.support.waiting import until

DATABASES = "SELECT oid, datname FROM pg_database ORDER BY oid"
GOOD = "the good backup of yesterday"
PROJECT = """
services:
  postgres:
    image: postgres:17
    environment: {{ POSTGRES_HOST_AUTH_METHOD: trust, POSTGRES_DB: docker_job }}
    ports: ["127.0.0.1:{port}:5432"]
    tmpfs: [/var/lib/postgresql/data]
    healthcheck:
      test: [CMD, pg_isready, -U, postgres, -h, 127.0.0.1]
      interval: 1s
      retries: 60
  # Of the others only that they run is of interest here, and of the broker that it can be purged.
  rabbitmq: &other
    image: postgres:17
    init: true
    stop_grace_period: 1s
    entrypoint: [sh, -c, "ln -s /bin/true /usr/local/bin/rabbitmqctl; exec sleep infinity"]
  api: *other
  scheduler: *other
  launcher: *other
  reaper: *other
  migrate: {{ <<: *other, entrypoint: ["true"] }}
"""


class Project:
    """A compose project with a database, and stand-ins for our services."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.name = f"docker-job-test-{uuid.uuid4().hex[:8]}"
        self.file = directory / "compose.yaml"
        self.file.write_text(PROJECT.format(port=port))
        self.dsn = f"postgresql://postgres@127.0.0.1:{port}/docker_job"

    def compose(self, *arguments: str) -> str:
        named = ("--project-name", self.name, "--file", str(self.file))
        return docker("compose", *named, *arguments, seconds=120)

    def sql(self, statement: str) -> str:
        psql = ("psql", "-XqtA", "-U", "postgres", "-d", "docker_job", "-c", statement)
        return self.compose("exec", "-T", "postgres", *psql)

    @property
    def environment(self) -> dict[str, str]:
        compose = f"docker compose --project-name {self.name} --file {self.file}"
        return os.environ | {"COMPOSE": compose}

    def script(
        self, *arguments: str | Path, name: str = "backup.sh"
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [ROOT / "deploy" / name, *arguments],
            env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Make a project that is down at first; the tests start it."""
    if missing := what_is_missing():
        pytest.skip(missing)
    project = Project(tmp_path_factory.mktemp("project"))
    yield project
    project.compose("down", "--volumes", "--timeout", "1")


@pytest.fixture(scope="module")
def running(project: Project) -> Project:
    project.compose("up", "--detach", "--wait", "postgres")
    return project


@pytest.fixture(scope="module")
def migrated(running: Project) -> Project:
    asyncio.run(migrate_all(running.dsn, PASSWORDS))
    return running


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Make a file that must not be lost."""
    file = tmp_path / "files" / "saved"
    file.parent.mkdir()
    file.write_text(GOOD)
    return file


def untouched(good: Path) -> bool:
    return good.read_text() == GOOD and list(good.parent.iterdir()) == [good]


def refusal(done: "subprocess.CompletedProcess[str]", by: str = "backup") -> str:
    """Return the last line, which gives the reason."""
    assert done.returncode == 1, done.stdout
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"{by}: ")
    return line


def test_a_project_without_a_database_is_refused_and_nothing_is_started(
    project: Project, good: Path
) -> None:
    for command in ("save", "restore"):
        line = refusal(project.script(command, good))
        assert "COMPOSE_PROJECT_NAME" in line
    line = refusal(project.script(name="rotate.sh"), by="rotate")
    assert "COMPOSE_PROJECT_NAME" in line
    assert untouched(good)
    assert project.compose("ps", "--all", "--quiet") == ""


def test_a_database_in_which_nothing_was_migrated_does_not_replace_a_backup(
    running: Project, good: Path
) -> None:
    assert "has no table api.outbox" in refusal(running.script("save", good))
    assert untouched(good)
    line = refusal(running.script(name="rotate.sh"), by="rotate")
    assert "there is no database of docker-job here" in line


@pytest.mark.parametrize(("file", "why"), [(".", "is a directory"), ("no/file", "cannot write")])
def test_a_file_that_can_be_none_is_refused(
    migrated: Project, tmp_path: Path, file: str, why: str
) -> None:
    assert why in refusal(migrated.script("save", tmp_path / file))
    for empty in ("", "  "):
        assert migrated.script("save", empty).returncode == 2


def test_a_save_takes_the_place_of_the_former_one_for_its_owner_alone(
    migrated: Project, good: Path
) -> None:
    done = migrated.script("save", good)
    assert done.stdout == f"saved to {good}\n", done.stderr
    assert good.stat().st_mode & 0o777 == 0o600
    assert good.read_bytes().startswith(b"PGDMP")
    assert list(good.parent.iterdir()) == [good]


def test_an_empty_setting_of_compose_is_its_default(migrated: Project, good: Path) -> None:
    given = {"COMPOSE": " ", "COMPOSE_FILE": str(migrated.file)}
    done = subprocess.run(
        [ROOT / "deploy" / "backup.sh", "save", good],
        env=os.environ | given | {"COMPOSE_PROJECT_NAME": migrated.name},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == f"saved to {good}\n", done.stderr


SLEEPING = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


def hold(project: Project, statement: str) -> "subprocess.Popen[bytes]":
    """Start a session that runs *statement*, which ends with a long sleep."""
    psql = ("psql", "-XqU", "postgres", "-d", "docker_job", "-c", statement)
    compose = project.environment["COMPOSE"].split()
    holding = subprocess.Popen(
        [*compose, "exec", "-T", "postgres", *psql], stderr=subprocess.DEVNULL
    )
    until(lambda: project.sql(f"SELECT count(*) {SLEEPING}").strip() == "1", 30)
    return holding


def release(project: Project, holding: "subprocess.Popen[bytes]") -> None:
    """End that session."""
    project.sql(f"SELECT pg_terminate_backend(pid) {SLEEPING}")
    holding.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_save_that_is_stopped_leaves_the_former_one(
    migrated: Project, good: Path, number: signal.Signals
) -> None:
    # pg_dump waits for a lock that another session holds.
    lock = "BEGIN; LOCK TABLE api.jobs; SELECT pg_sleep(600)"
    holding = hold(migrated, lock)
    saving = subprocess.Popen(
        [ROOT / "deploy" / "backup.sh", "save", good],
        env=migrated.environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'"
    until(lambda: migrated.sql(waits).strip() == "1", 30)
    os.killpg(saving.pid, number)  # as the terminal does
    saving.communicate()
    release(migrated, holding)
    assert saving.returncode != 0
    assert good.read_text() == GOOD
    if number != signal.SIGKILL:
        assert untouched(good)
    foreign = good.with_name("saved.part.elsewhere.1.abcdef")
    foreign.write_text("of another machine")
    assert migrated.script("save", good).returncode == 0
    assert sorted(good.parent.iterdir()) == [good, foreign]


def test_a_save_that_fails_half_way_leaves_the_former_one(migrated: Project, good: Path) -> None:
    shell = f'ulimit -f 8 && exec {ROOT}/deploy/backup.sh save "$0"'  # in units of 1024 bytes
    done = subprocess.run(
        ["bash", "-c", shell, good],
        env=migrated.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert untouched(good)


def dump_of(project: Project, database: str) -> bytes:
    """Return pg_dump's own dump of any database."""
    compose = (
        "docker",
        "compose",
        "-p",
        project.name,
        "-f",
        project.file,
        "exec",
        "-T",
        "postgres",
    )
    pg_dump = ("pg_dump", "-U", "postgres", "--format=custom", database)
    return subprocess.run([*compose, *pg_dump], capture_output=True, check=True).stdout


def test_what_is_no_whole_backup_of_ours_stops_and_replaces_nothing(
    migrated: Project, good: Path
) -> None:
    whole = good.with_name("whole")
    assert migrated.script("save", whole).returncode == 0
    content = whole.read_bytes()
    migrated.sql("CREATE DATABASE other")
    foreign = dump_of(migrated, "other")
    altered = bytearray(content)
    altered[200] ^= 1
    before = migrated.sql(DATABASES)
    for bad, why in (
        (b"something else", "is not a backup"),
        (content[: len(content) // 2], ""),
        (content[:-1], "is not complete: its checksum is cut off"),
        (content[:-90], "is not complete"),
        (bytes(altered), "was altered since it was saved"),
        (foreign, "is not a backup of docker-job"),
        (b"", "is empty"),
    ):
        good.write_bytes(bad)
        line = refusal(migrated.script("restore", good))
        assert str(good) in line
        assert why in line, line
    assert migrated.sql(DATABASES) == before


def test_a_backup_of_a_newer_release_stops_and_replaces_nothing(
    migrated: Project, good: Path
) -> None:
    later = "('api', 'api/9999_later.sql', 'x')"
    migrated.sql(f"INSERT INTO migrations.applied VALUES {later}")  # noqa: S608
    assert migrated.script("save", good).returncode == 0
    migrated.sql("DELETE FROM migrations.applied WHERE checksum = 'x'")
    before = migrated.sql(DATABASES)
    line = refusal(migrated.script("restore", good))
    assert "was saved by a newer release of docker-job (migration api/9999_later.sql)" in line
    assert migrated.sql(DATABASES) == before


def test_a_restore_replaces_the_database_and_keeps_the_former_one(
    migrated: Project, good: Path
) -> None:
    assert migrated.script("save", good).returncode == 0
    for table in ("former_1", "former_2"):
        migrated.sql(f"CREATE TABLE api.{table} ()")
        done = migrated.script("restore", good)
        assert done.stdout.endswith("restored\n"), done.stderr
    names = migrated.sql("SELECT datname FROM pg_database ORDER BY 1").split()
    assert [each for each in names if each.startswith("docker_job")] == [
        "docker_job",
        "docker_job_former",
    ]
    found = "SELECT count(*) FROM pg_tables WHERE tablename = 'former_2'"
    assert migrated.sql(found).strip() == "0"
    # Another program holds it: the services start again, on what was there.
    before = migrated.sql(DATABASES)
    holding = hold(migrated, "SELECT pg_sleep(600)")
    assert "nothing was replaced" in refusal(migrated.script("restore", good))
    release(migrated, holding)
    assert migrated.sql(DATABASES) == before
    running = migrated.compose("ps", "--services", "--status", "running").split()
    assert {"api", "scheduler", "launcher", "reaper"} <= set(running)
