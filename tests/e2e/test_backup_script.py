"""deploy/backup.sh on what is no database and no backup: it refuses, and keeps the existing files.

On a project of a Postgres alone; the whole story under compose is in test_restore.py.
"""

import asyncio
import os
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
  rabbitmq:
    image: postgres:17
    entrypoint: [sleep, infinity]
"""  # of the broker only that it runs is of interest here


class Project:
    """A compose project with a database, and none of our services to stop."""

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

    def script(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        compose = f"docker compose --project-name {self.name} --file {self.file}"
        return subprocess.run(
            [ROOT / "deploy" / "backup.sh", *arguments],
            env=os.environ | {"COMPOSE": compose}, stdin=subprocess.DEVNULL,
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


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the last line, which gives the reason."""
    assert done.returncode == 1, done.stdout
    line = done.stderr.splitlines()[-1]
    assert line.startswith("backup: ")
    return line


def test_a_project_without_a_database_is_refused_and_nothing_is_started(
    project: Project, good: Path
) -> None:
    for command in ("save", "restore"):
        line = refusal(project.script(command, good))
        assert "COMPOSE_PROJECT_NAME" in line
    assert untouched(good)
    assert project.compose("ps", "--all", "--quiet") == ""


def test_a_database_in_which_nothing_was_migrated_does_not_replace_a_backup(
    running: Project, good: Path
) -> None:
    assert "has no table api.outbox" in refusal(running.script("save", good))
    assert untouched(good)


@pytest.mark.parametrize(("file", "why"), [(".", "is a directory"), ("no/file", "cannot write")])
def test_a_file_that_can_be_none_is_refused(
    migrated: Project, tmp_path: Path, file: str, why: str
) -> None:
    assert why in refusal(migrated.script("save", tmp_path / file))
    assert migrated.script("save", "").returncode == 2


def test_a_save_takes_the_place_of_the_former_one_for_its_owner_alone(
    migrated: Project, good: Path
) -> None:
    done = migrated.script("save", good)
    assert done.stdout == f"saved to {good}\n", done.stderr
    assert good.stat().st_mode & 0o777 == 0o600
    assert good.read_bytes().startswith(b"PGDMP")
    assert list(good.parent.iterdir()) == [good]


def test_a_save_that_fails_half_way_leaves_the_former_one(migrated: Project, good: Path) -> None:
    shell = f'ulimit -f 8 && exec {ROOT}/deploy/backup.sh save "$0"'  # in units of 1024 bytes
    compose = f"docker compose --project-name {migrated.name} --file {migrated.file}"
    done = subprocess.run(
        ["bash", "-c", shell, good],
        env=os.environ | {"COMPOSE": compose}, capture_output=True, text=True, check=False,
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
    before = migrated.sql("SELECT oid, datname FROM pg_database ORDER BY oid")
    for bad in (b"something else", content[: len(content) // 2], content[:-1], foreign, b""):
        good.write_bytes(bad)
        assert str(good) in refusal(migrated.script("restore", good))
    after = migrated.sql("SELECT oid, datname FROM pg_database ORDER BY oid")
    assert after == before
