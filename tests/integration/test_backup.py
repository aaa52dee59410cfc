"""`python -m embedded.backup` and its like, given right and wrong directories."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded.backup import verify
from embedded.postgres import EmbeddedPostgres
from embedded.postgres_host import binaries, own_environment
from embedded.secrets import local_secrets
from operations.wiring import SERVICES
from shared.postgres.pool import connect
from tests.conftest import at_database
from tests.support.run.commands import ROOT, environment, one_line, run

GOOD = "the good backup of yesterday"
BACKUP = "embedded.backup"
DUMP_WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'"


def sql(dsn: str, *statements: str) -> None:
    async def conversation() -> None:
        conn = await connect(dsn)
        try:
            for each in statements:
                await conn.execute(each)
        finally:
            await conn.close()

    asyncio.run(conversation())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Make a file that must not be lost."""
    file = tmp_path / "files" / "saved"
    file.parent.mkdir()
    file.write_text(GOOD)
    return file


def untouched(good: Path) -> bool:
    return good.read_text() == GOOD and list(good.parent.iterdir()) == [good]


def is_dump(file: Path) -> bool:
    return file.read_bytes().startswith(b"PGDMP")


def write_half(*files: Path) -> None:
    """Make the leftover of a save that was killed."""
    for each in files:
        each.write_text("half")


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


# -- a data directory without a database -----------------------------------------------------------


def nothing(_: Path) -> None:
    """Make no directory at all."""


def empty(directory: Path) -> None:
    directory.mkdir()


def half_made(directory: Path) -> None:
    """Make the data of a first start that was killed before it had made the cluster."""
    (directory / "postgres" / "initdb-1").mkdir(parents=True)
    (directory / "postgres" / "superuser-password").write_text("secret")


def everything_in(directory: Path) -> list[str]:
    return sorted(str(each) for each in directory.rglob("*"))


@pytest.mark.parametrize("made", [nothing, empty, half_made])
@pytest.mark.parametrize(
    "command",
    [
        (BACKUP, "save", "FILE"),
        ("embedded.rotate",),
        ("operations.deadletters", "list"),
        ("operations.deadletters", "drop", "--all", "--service", "api"),
        ("embedded.run", "keys", "list"),
    ],
)
def test_a_directory_without_a_database_is_refused_and_left_as_it_is(
    tmp_path: Path, good: Path, command: tuple[str, ...], made: Any
) -> None:
    data = tmp_path / "data"
    made(data)
    before = everything_in(tmp_path)
    arguments = [str(good) if each == "FILE" else each for each in command]
    line = one_line(run(*arguments, DATA_DIR=str(data)))
    assert f"in the data directory {data} (" in line
    assert "does not exist): set DOCKER_JOB_DATA_DIR" in line
    assert everything_in(tmp_path) == before
    assert untouched(good)


def test_a_first_key_may_be_created_before_the_first_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    keys = ("embedded.run", "keys")
    made = run(*keys, "create", "--name", "me", DATA_DIR=str(data))
    assert made.stdout.startswith("djk_"), made.stderr
    assert made.stdout.split("_")[1] in run(*keys, "list", DATA_DIR=str(data)).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a data directory with secrets and a cluster, in which nothing was migrated yet."""
    data = tmp_path_factory.mktemp("cluster") / "data"
    data.mkdir()
    local_secrets(data, tuple(service.NAME for service in SERVICES))
    postgres = EmbeddedPostgres(data / "postgres", durable=False)
    postgres.start()
    postgres.stop()
    yield data
    postgres.stop()


def test_a_cluster_in_which_nothing_was_migrated_does_not_replace_a_backup(
    cluster: Path, good: Path
) -> None:
    line = one_line(run(BACKUP, "save", good, DATA_DIR=str(cluster)))
    assert "This is not a database of docker-job" in line
    assert "DOCKER_JOB_DATA_DIR" in line
    assert untouched(good)


def test_in_a_cluster_in_which_nothing_was_migrated_no_place_was_read(cluster: Path) -> None:
    done = run("operations.deadletters", "list", DATA_DIR=str(cluster))
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.splitlines()) == len(SERVICES)


# -- saving ----------------------------------------------------------------------------------------


async def test_a_backup_is_for_its_owner_alone_and_what_killed_ones_left_is_removed(
    database_url: str, good: Path
) -> None:
    assert mode(good) == 0o644
    leftover, other = good.with_name("saved.ab_12cde.part"), good.with_name("saved.of-mine.part")
    written = good.with_name("saved.zzzzzzzz.part")
    write_half(leftover, other, written)
    with written.open() as held:  # another save of it, just now
        fcntl.flock(held, fcntl.LOCK_EX)
        done = await asyncio.to_thread(run, BACKUP, "save", good, DATABASE_URL=database_url)
    assert done.stdout == f"saved to {good}\n", done.stderr
    assert mode(good) == 0o600
    assert sorted(good.parent.iterdir()) == [good, other, written]
    assert is_dump(good)


async def test_a_backup_by_a_link_goes_where_the_link_leads(
    database_url: str, good: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(good)
    await asyncio.to_thread(run, BACKUP, "save", link, DATABASE_URL=database_url)
    assert link.is_symlink()
    assert is_dump(good)


@pytest.mark.parametrize(
    "statement",
    ["DROP SCHEMA launcher CASCADE", "DROP TABLE reaper.parked", "DROP TABLE api.inbox"],
)
async def test_a_database_without_all_of_our_schemas_does_not_replace_a_backup(
    database_url: str, good: Path, statement: str
) -> None:
    await asyncio.to_thread(sql, database_url, statement)
    done = await asyncio.to_thread(run, BACKUP, "save", good, DATABASE_URL=database_url)
    assert "This is not a database of docker-job" in one_line(done)
    assert untouched(good)


def test_the_wrong_database_does_not_replace_a_backup(postgres_server: str, good: Path) -> None:
    for name, why in (("template1", "not a database of docker-job"), ("none", "does not exist")):
        url = at_database(postgres_server, name)
        assert why in one_line(run(BACKUP, "save", good, DATABASE_URL=url))
    assert untouched(good)


@pytest.mark.parametrize("limit", [0, 8])
async def test_a_disk_that_is_full_leaves_the_former_backup(
    database_url: str, good: Path, limit: int
) -> None:
    # No file grows beyond *limit*: the shell's unit is 1024 bytes.
    shell = f'ulimit -f {limit} && exec "$0" -m {BACKUP} save "$1"'
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", shell, sys.executable, str(good)],
        cwd=ROOT, env=environment(DATABASE_URL=database_url), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert one_line(done).startswith("docker-job backup: ")
    assert untouched(good)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
async def test_a_save_that_is_stopped_half_way_leaves_the_former_backup(
    database_url: str, good: Path, number: signal.Signals
) -> None:
    conn, holder = await connect(database_url), await connect(database_url)
    await holder.execute("BEGIN; LOCK TABLE api.jobs")  # for which pg_dump waits
    saving = await asyncio.create_subprocess_exec(
        sys.executable, "-m", BACKUP, "save", good,
        cwd=ROOT, env=environment(DATABASE_URL=database_url), stderr=subprocess.PIPE,
    )  # fmt: skip
    database = await conn.fetchval("SELECT current_database()")
    async with asyncio.timeout(30):
        while not await conn.fetchval(DUMP_WAITS, database):
            pass
    saving.send_signal(number)
    _, errors = await saving.communicate()
    await holder.close()
    assert saving.returncode == (-number if number == signal.SIGKILL else 130)
    assert not is_dump(good)
    if number != signal.SIGKILL:
        assert untouched(good)
        assert errors.decode() == "docker-job backup: stopped; nothing was replaced\n"
    async with asyncio.timeout(30):  # the dump of the one that was killed ends by itself
        while (
            await conn.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", database
            )
            > 1
        ):
            pass
    await conn.close()
    await asyncio.to_thread(run, BACKUP, "save", good, DATABASE_URL=database_url)
    assert list(good.parent.iterdir()) == [good]


@pytest.mark.parametrize("command", ["save", "restore"])
def test_a_file_that_can_be_none_is_refused(tmp_path: Path, command: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for file, why in (
        ("", "name the file"),
        (str(tmp_path), "director" if command == "save" else "is not a regular file"),
        (str(pipe), "is not a regular file"),
        (str(tmp_path / "no" / "file"), "directory" if command == "save" else "does not exist"),
    ):
        done = run(BACKUP, command, file, DATABASE_URL="postgresql://127.0.0.1:1/none")
        assert done.returncode == 2
        assert why in one_line(done)
    assert list(tmp_path.iterdir()) == [pipe]


# -- restoring -------------------------------------------------------------------------------------


def dump(dsn: str, file: Path) -> None:
    """Dump a database with pg_dump's own defaults."""
    done = run(BACKUP, "save", file, DATABASE_URL=dsn)
    assert done.returncode == 0, done.stderr


def dump_part(dsn: str, file: Path, *flags: str) -> None:
    """Dump a part of the database, which `save` would refuse."""
    arguments = ("--format=custom", f"--dbname={dsn}", f"--file={file}", *flags)
    subprocess.run([binaries() / "pg_dump", *arguments], env=own_environment(), check=True)


@pytest.fixture
def passable(tmp_path: Path) -> Path:
    """Make a directory that root's server, which runs as another user, may pass through."""
    tmp_path.chmod(0o711)
    return tmp_path


async def test_after_a_loss_a_backup_is_restored_into_a_directory_that_is_made(
    database_url: str, passable: Path
) -> None:
    file = passable / "file"
    await asyncio.to_thread(dump, database_url, file)
    data = passable / "data"
    done = await asyncio.to_thread(run, BACKUP, "restore", file, DATA_DIR=str(data))
    assert done.returncode == 0, done.stderr
    again = passable / "again"
    done = await asyncio.to_thread(run, BACKUP, "save", again, DATA_DIR=str(data))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("made", [nothing, empty, half_made])
async def test_a_restore_that_cannot_be_makes_nothing(
    database_url: str, tmp_path: Path, made: Any
) -> None:
    data, file = tmp_path / "data", tmp_path / "file"
    made(data)
    if made is half_made:
        await asyncio.to_thread(dump, database_url, file)
    else:
        file.write_text("something else")
    before = everything_in(tmp_path)
    one_line(await asyncio.to_thread(run, BACKUP, "restore", file, DATA_DIR=str(data)))
    assert everything_in(tmp_path) == before


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Make a data directory whose database is elsewhere."""
    data = tmp_path / "data"
    data.mkdir()
    local_secrets(data, tuple(service.NAME for service in SERVICES))
    return data


async def restore(database_url: str, file: Path, data_dir: Path) -> str:
    settings = {"DATABASE_URL": database_url, "DATA_DIR": str(data_dir)}
    return one_line(await asyncio.to_thread(run, BACKUP, "restore", file, **settings))


DATABASES = """
SELECT datname FROM pg_database
WHERE datname = current_database() OR datname !~ '^(test|shared|template)_'
"""
"""Without those of tests that run beside this one, on the same server."""


async def databases(database_url: str) -> set[str]:
    conn = await connect(database_url)
    found = {row["datname"] for row in await conn.fetch(DATABASES)}
    await conn.close()
    return found


async def test_what_is_no_whole_backup_of_ours_replaces_nothing(
    database_url: str, tmp_path: Path, data_dir: Path
) -> None:
    before = await databases(database_url)
    file = tmp_path / "file"
    file.touch()
    assert "is empty" in await restore(database_url, file, data_dir)
    file.write_text("something else")
    assert "pg_restore: error: input file" in await restore(database_url, file, data_dir)
    await asyncio.to_thread(dump, database_url, file)
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100):
        file.write_bytes(whole[:size])
        assert "pg_restore" in await restore(database_url, file, data_dir), size
    for flags in (("--schema=public",), ("--exclude-schema=launcher",), ("--schema-only",)):
        await asyncio.to_thread(dump_part, database_url, file, *flags)
        assert "is not a backup of docker-job" in await restore(database_url, file, data_dir)
    assert await databases(database_url) == before


async def test_a_database_of_something_else_is_not_replaced(
    database_url: str, tmp_path: Path, data_dir: Path
) -> None:
    file = tmp_path / "file"
    await asyncio.to_thread(dump, database_url, file)
    drop = [f"DROP SCHEMA {service.NAME} CASCADE" for service in SERVICES]
    await asyncio.to_thread(
        sql, database_url, *drop, "DROP SCHEMA migrations CASCADE", "CREATE TABLE theirs (n int)"
    )
    before = await databases(database_url)
    assert "is not docker-job's" in await restore(database_url, file, data_dir)
    assert await databases(database_url) == before


async def test_with_a_wrong_data_directory_no_database_is_replaced(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    await asyncio.to_thread(dump, database_url, file)
    wrong = tmp_path / "wrong"
    assert "There is no secrets.json" in await restore(database_url, file, wrong)
    assert not wrong.exists()


async def test_a_whole_backup_of_an_older_release_is_taken(
    database_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(sql, database_url, "DROP TABLE api.api_keys")
    file = tmp_path / "file"
    await asyncio.to_thread(dump_part, database_url, file)
    await verify(file)
