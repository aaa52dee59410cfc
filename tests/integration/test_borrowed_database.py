"""Commands on the embedded database: several at once, beside the system, and in a wrong place."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from embedded.data_dir import DataDirError, lock_data_dir
from embedded.database import POSTGRES, borrowed_database, database_alone
from embedded.postgres import EmbeddedPostgres
from embedded.postgres_host import processes_in
from embedded.secrets import FILE, LocalSecrets, local_secrets
from operations.migrate import service_dsn
from operations.wiring import SERVICES
from shared.postgres.pool import connect
from tests.conftest import PASSWORDS, at_database
from tests.support.run.commands import ROOT, environment, one_line, run, run_in

ROLES = tuple(service.NAME for service in SERVICES)
BACKUP = "embedded.backup"
BORROW = """
import asyncio, sys
from pathlib import Path
from embedded.database import borrowed_database
from shared.postgres.pool import connect

async def main():
    async with borrowed_database(Path(sys.argv[1])) as dsn:
        conn = await connect(dsn)
        print("connected", flush=True)
        sys.stdin.readline()
        print(await conn.fetchval("SELECT 1"), flush=True)
        await conn.close()

asyncio.run(main())
"""
KEYS = ("embedded.run", "keys")


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Make a data directory with secrets and a cluster whose server does not run."""
    data = tmp_path / "data"
    data.mkdir(mode=0o711)
    local_secrets(data, ROLES)
    postgres = EmbeddedPostgres(data / POSTGRES, durable=False)
    postgres.start()
    postgres.stop()
    yield data
    postgres.stop()


def servers(data: Path) -> set[int]:
    """Return the processes of the server."""
    return set(processes_in((data / POSTGRES / "pgdata").resolve()))


def everything_in(directory: Path) -> list[str]:
    return sorted(str(each) for each in directory.rglob("*"))


async def answer(dsn: str) -> int:
    conn = await connect(dsn)
    try:
        return int(await conn.fetchval("SELECT 1"))
    finally:
        await conn.close()


# -- several at once -------------------------------------------------------------------------------


class Command:
    """A process that uses the database until it is told to end."""

    def __init__(self, data: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BORROW, str(data)],
            cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def wait_until_connected(self) -> None:
        assert self._read() == "connected"

    def end(self) -> str:
        """Let it run one more statement and end; return what the statement returned."""
        assert self._process.stdin is not None
        self._process.stdin.write("end\n")
        self._process.stdin.flush()
        result = self._read()
        self._process.communicate()
        return result

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.mark.parametrize("first", [0, 1])
def test_the_last_of_two_commands_stops_the_server(data: Path, first: int) -> None:
    commands = [Command(data), Command(data)]
    for each in commands:
        each.wait_until_connected()
    assert commands[first].end() == "1"
    assert servers(data) != set(), "the other one still uses it"
    assert commands[1 - first].end() == "1"
    assert servers(data) == set()


def test_commands_that_start_and_end_at_the_same_time_use_one_server(data: Path) -> None:
    commands = [Command(data) for _ in range(4)]
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(Command.end, _connected(commands))) == ["1"] * 4
    assert servers(data) == set()


def _connected(commands: list[Command]) -> list[Command]:
    for each in commands:
        each.wait_until_connected()
    return commands


def test_a_system_that_starts_meanwhile_keeps_the_server(data: Path) -> None:
    command = Command(data)
    command.wait_until_connected()
    with lock_data_dir(data):  # a command does not hold the system's lock
        assert command.end() == "1"
        assert servers(data) != set()


async def test_the_running_systems_server_is_neither_restarted_nor_stopped(data: Path) -> None:
    with lock_data_dir(data):
        system = EmbeddedPostgres(data / POSTGRES, durable=False)  # other settings than a command's
        system.start()
        pid = min(servers(data))
        conn = await connect(system.dsn())
        async with borrowed_database(data) as dsn:
            assert await answer(dsn) == 1
        assert await conn.fetchval("SELECT 1") == 1, "no session was cut"
        await conn.close()
        assert min(servers(data)) == pid
        system.stop()


async def test_a_command_waits_for_a_system_that_is_starting(data: Path) -> None:
    async def command() -> int:
        async with borrowed_database(data) as dsn:
            return await answer(dsn)

    with lock_data_dir(data):
        waiting = asyncio.create_task(command())
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done, "it neither fails nor starts a server of its own"
        assert servers(data) == set()
        postgres = EmbeddedPostgres(data / POSTGRES, durable=False)
        await asyncio.to_thread(postgres.start)
        assert await waiting == 1
        postgres.stop()


async def test_a_restore_has_the_database_alone(data: Path) -> None:
    async with borrowed_database(data):
        with pytest.raises(DataDirError, match="Another command"), database_alone(data):
            pass

    async def command() -> int:
        async with borrowed_database(data) as dsn:
            return await answer(dsn)

    with database_alone(data) as postgres:
        await asyncio.to_thread(postgres.start)
        waiting = asyncio.create_task(command())
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
    assert await waiting == 1


def test_a_directory_of_two_commands_at_once_has_one_set_of_secrets(tmp_path: Path) -> None:
    async def both() -> list[LocalSecrets]:
        tries = (asyncio.to_thread(local_secrets, tmp_path, ROLES) for _ in range(8))
        return list(await asyncio.gather(*tries))

    made = asyncio.run(both())
    assert all(each == made[0] for each in made)


# -- a cluster of something else -------------------------------------------------------------------


def older(cluster: Path) -> None:
    (cluster / "pgdata" / "PG_VERSION").write_text("17\n")
    (cluster / "superuser-password").write_text("secret")


def newer(cluster: Path) -> None:
    older(cluster)
    (cluster / "pgdata" / "PG_VERSION").write_text("19\n")


def not_ours(cluster: Path) -> None:
    (cluster / "pgdata" / "PG_VERSION").write_text("18\n")


COMMANDS = (
    (BACKUP, "save", "FILE"),
    (BACKUP, "restore", "WHOLE"),
    ("operations.deadletters", "list"),
    (*KEYS, "list"),
    (*KEYS, "create", "--name", "me"),
)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (older, "was made by Postgres 17"),
        (newer, "was made by Postgres 19"),
        (not_ours, "superuser-password cannot be read"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_cluster_that_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, database_url: str, command: tuple[str, ...], made: Any, why: str
) -> None:
    whole = tmp_path / "whole"
    await asyncio.to_thread(run, BACKUP, "save", whole, DATABASE_URL=database_url)
    data = tmp_path / "data"
    (data / POSTGRES / "pgdata").mkdir(parents=True)
    made(data / POSTGRES)
    local_secrets(data, ROLES)
    before = everything_in(tmp_path)
    names = {"FILE": str(tmp_path / "file"), "WHOLE": str(whole)}
    arguments = [names.get(each, each) for each in command]
    done = await asyncio.to_thread(run, *arguments, DATA_DIR=str(data))
    line = one_line(done)
    assert why in line
    assert "DOCKER_JOB_DATA_DIR" in line
    assert everything_in(tmp_path) == before


def test_an_empty_directory_setting_is_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "pgdata").mkdir(parents=True)  # what the current directory may hold
    (tmp_path / "postgres" / "pgdata" / "PG_VERSION").write_text("18\n")
    for command in ((BACKUP, "save", "FILE"), ("embedded.rotate",), (*KEYS, "list")):
        for empty in ("", " "):
            line = one_line(run_in(tmp_path, *command, DATA_DIR=empty))
            assert f"in the data directory {tmp_path}/.data (" in line
    assert not (tmp_path / ".data").exists()


# -- keys ------------------------------------------------------------------------------------------


TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('migrations', 'api')"


async def fetch(dsn: str, statement: str) -> Any:
    conn = await connect(dsn)
    try:
        return await conn.fetchval(statement)
    finally:
        await conn.close()


@pytest.fixture
async def other(database_url: str) -> str:
    """Make a database of something else."""
    for schema in (*ROLES, "migrations"):
        await fetch(database_url, f"DROP SCHEMA {schema} CASCADE")
    await fetch(database_url, "CREATE TABLE theirs (n int)")
    return database_url


@pytest.mark.parametrize("command", ["list", "create", "revoke"])
async def test_keys_migrate_no_database_of_something_else(
    other: str, tmp_path: Path, command: str
) -> None:
    arguments = {"list": (), "create": ("--name", "me"), "revoke": ("abc",)}[command]
    data = tmp_path / "data"
    settings = {"DATABASE_URL": other, "DATA_DIR": str(data)}
    done = await asyncio.to_thread(run, *KEYS, command, *arguments, **settings)
    assert "This is not a database of docker-job" in one_line(done)
    assert await fetch(other, TABLES) == 0
    assert not data.exists()


async def test_keys_with_a_wrong_data_directory_lock_no_service_out(
    database_url: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    settings = {"DATABASE_URL": database_url, "DATA_DIR": str(data)}
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'api'"
    before = await fetch(database_url, stored)
    for arguments in (("list",), ("create", "--name", "me")):
        done = await asyncio.to_thread(run, *KEYS, *arguments, **settings)
        assert f"There is no {FILE} in the data directory {data}" in one_line(done)
    assert await fetch(database_url, stored) == before
    assert not data.exists()


def test_keys_of_a_cluster_without_our_schemas_are_refused(data: Path) -> None:
    line = one_line(run(*KEYS, "list", DATA_DIR=str(data)))
    assert "This is not a database of docker-job" in line
    assert "DOCKER_JOB_DATA_DIR" in line


def test_a_first_key_says_where_the_new_database_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = run(*KEYS, "create", "--name", "me", DATA_DIR=str(data))
    assert done.stdout.startswith("djk_"), done.stderr
    first, *logged = done.stderr.splitlines()
    assert first == f"docker-job: the database is new; its passwords are in {data / FILE}"
    assert [json.loads(each)["action"] for each in logged] == ["key.create"], "the audit's"


@pytest.mark.parametrize("database", ["none", "template1"])
async def test_keys_of_a_service_on_no_database_of_ours_are_one_line(
    database_url: str, database: str
) -> None:
    dsn = service_dsn(at_database(database_url, database), "api", PASSWORDS["api"])
    done = await asyncio.to_thread(run, "services.api", "keys", "list", DATABASE_URL=dsn)
    line = one_line(done)
    assert done.returncode == 78
    assert "is not the database of docker-job" in line
    assert "does not exist" in line
    assert PASSWORDS["api"] not in line


def test_damaged_secrets_are_one_line_and_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / FILE
    for damaged in ("", "{", '{"token_key": 1}'):
        file.write_text(damaged)
        line = one_line(run("embedded.rotate", DATA_DIR=str(tmp_path)))
        assert f"{file} cannot be read" in line
        assert file.read_text() == damaged
