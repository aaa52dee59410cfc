"""What `restore` refuses before it touches anything, and what it leaves where it cannot finish."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedded import dump
from embedded.backup import save, verify
from embedded.backup_file import BackupError
from embedded.postgres import EmbeddedPostgres
from embedded.restored_database import FORMER, INCOMING, OBSOLETE, replace_database
from embedded.secrets import local_secrets
from operations.migrate import migrate_all
from operations.wiring import SERVICES
from shared.postgres.pool import connect
from tests.conftest import PASSWORDS, at_database
from tests.support.run.commands import one_line, run

MARK = b"\ndocker-job sha256 "
DATABASES = "SELECT array_agg(datname || ' ' || oid ORDER BY datname) FROM pg_database"


async def execute(dsn: str, *statements: str) -> None:
    conn = await connect(dsn)
    try:
        for each in statements:
            await conn.execute(each)
    finally:
        await conn.close()


async def fetch(dsn: str, statement: str, *arguments: str) -> object:
    conn = await connect(dsn)
    try:
        return await conn.fetchval(statement, *arguments)
    finally:
        await conn.close()


def content_of(file: Path) -> bytes:
    return file.read_bytes()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


@pytest.fixture
async def saved(database_url: str, tmp_path: Path) -> Path:
    file = tmp_path / "saved"
    await save(database_url, file)
    return file


async def test_the_last_line_of_a_backup_is_its_checksum(saved: Path) -> None:
    content, _, digest = content_of(saved).rpartition(MARK)
    assert content.startswith(b"PGDMP")
    assert len(digest) == 65
    await verify(saved)
    write(saved, content)  # as releases before saved it
    await verify(saved)


async def test_any_altered_bit_is_found(saved: Path) -> None:
    content = content_of(saved)
    end = content.rindex(MARK)
    chance = random.Random(1)
    for _ in range(200):
        altered = bytearray(content)
        altered[chance.randrange(end)] ^= 1 << chance.randrange(8)
        write(saved, bytes(altered))
        with pytest.raises(BackupError, match="was altered since it was saved"):
            await verify(saved)


async def test_a_backup_that_is_cut_off_is_found(saved: Path) -> None:
    content = content_of(saved)
    end = content.rindex(MARK)
    for size in (len(content) - 1, end + len(MARK), end - 1, end // 2, 10):
        write(saved, content[:size])
        with pytest.raises(BackupError, match=r"is not complete|is not a whole backup"):
            await verify(saved)


NEWER = "INSERT INTO migrations.applied VALUES ('api', 'api/9999_later.sql', 'x')"
OTHER = "UPDATE migrations.applied SET checksum = 'x' WHERE source = 'api/0001_jobs.sql'"
UNKNOWN = "DELETE FROM migrations.applied"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (NEWER, "was saved by a newer release of docker-job .*api/9999_later.sql"),
        (OTHER, "was saved by another docker-job .*api/0001_jobs.sql"),
        (UNKNOWN, "does not list its migrations"),
    ],
)
async def test_a_backup_of_another_release_is_refused_before_anything_is_made(
    database_url: str, tmp_path: Path, statement: str, why: str
) -> None:
    await execute(database_url, statement)
    file, data = tmp_path / "file", tmp_path / "data"
    await save(database_url, file)  # it is whole: the release that wrote it can restore it
    with pytest.raises(BackupError, match=why):
        await verify(file)
    done = await asyncio.to_thread(run, "embedded.backup", "restore", file, DATA_DIR=str(data))
    assert str(file) in one_line(done)
    assert not data.exists()


async def test_a_backup_of_an_older_release_may_lack_migrations(
    database_url: str, tmp_path: Path
) -> None:
    newest = "SELECT max(source) FROM migrations.applied WHERE source LIKE 'api/%'"
    source = await fetch(database_url, newest)
    delete = "DELETE FROM migrations.applied WHERE source = $1 RETURNING true"
    assert await fetch(database_url, delete, str(source))
    file = tmp_path / "file"
    await save(database_url, file)
    await verify(file)


def test_the_release_knows_its_own_migrations() -> None:
    known = dump.known_migrations()
    assert {schema for schema, _ in known} == {service.NAME for service in SERVICES}
    assert ("api", "api/0001_jobs.sql") in known
    assert ("reaper", "shared/0001_messaging.sql") in known


# -- on a server of its own: a restore's databases have fixed names --------------------------------


@pytest.fixture
def passable(tmp_path: Path) -> Path:
    """Make a directory that root's server, which runs as another user, may pass through."""
    tmp_path.chmod(0o711)
    return tmp_path


@pytest.fixture
async def deployed(passable: Path) -> AsyncIterator[str]:
    """Make a server with one migrated database, docker_job; return its DSN."""
    postgres = EmbeddedPostgres(passable / "postgres", durable=False)
    server = await asyncio.to_thread(postgres.start)
    try:
        await execute(server, "CREATE DATABASE docker_job")
        dsn = at_database(server, "docker_job")
        await migrate_all(dsn, PASSWORDS)
        yield dsn
    finally:
        await asyncio.to_thread(postgres.stop)


async def test_a_restore_keeps_the_former_database_until_the_next(
    deployed: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    await save(deployed, file)
    await execute(deployed, "CREATE TABLE api.first_former ()")
    await replace_database(deployed, file, PASSWORDS)
    await execute(deployed, "CREATE TABLE api.second_former ()")
    await replace_database(deployed, file, PASSWORDS)
    tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'second_former'"
    assert await fetch(deployed, tables) == 0
    assert await fetch(at_database(deployed, FORMER), tables) == 1
    left = str(await fetch(deployed, DATABASES))
    assert INCOMING not in left
    assert OBSOLETE not in left


async def test_a_database_in_use_is_not_replaced_and_the_former_one_stays(
    deployed: str, tmp_path: Path
) -> None:
    file, data = tmp_path / "file", tmp_path / "data"
    data.mkdir()
    local_secrets(data, tuple(service.NAME for service in SERVICES))
    await save(deployed, file)
    await replace_database(deployed, file, PASSWORDS)
    before = await fetch(deployed, DATABASES)
    service = await connect(deployed)
    settings = {"DATABASE_URL": deployed, "DATA_DIR": str(data)}
    done = await asyncio.to_thread(run, "embedded.backup", "restore", file, **settings)
    assert "The database docker_job is in use: stop docker-job" in one_line(done)
    await service.close()
    assert await fetch(deployed, DATABASES) == before


async def test_one_that_is_used_only_at_the_end_of_the_restore_is_not_replaced_either(
    deployed: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    await save(deployed, file)
    await replace_database(deployed, file, PASSWORDS)
    before = await fetch(deployed, DATABASES)
    restoring = asyncio.create_task(replace_database(deployed, file, PASSWORDS))
    loading = "SELECT true FROM pg_database WHERE datname = $1"
    async with asyncio.timeout(30):
        while not await fetch(at_database(deployed, "postgres"), loading, INCOMING):
            pass
    service = await connect(deployed)
    with pytest.raises(BackupError, match="is in use"):
        await restoring
    await service.close()
    assert await fetch(deployed, DATABASES) == before


@pytest.mark.parametrize("name", [FORMER, INCOMING, "template1"])
async def test_the_databases_of_a_restore_itself_are_not_replaced(
    deployed: str, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "file"
    await save(deployed, file)
    if name != "template1":
        await execute(at_database(deployed, "postgres"), f"CREATE DATABASE {name}")
    before = await fetch(deployed, DATABASES)
    with pytest.raises(BackupError, match=f"The database {name} cannot be replaced"):
        await replace_database(at_database(deployed, name), file, PASSWORDS)
    assert await fetch(deployed, DATABASES) == before


async def test_a_restore_that_cannot_load_leaves_everything(deployed: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    await execute(
        deployed,
        "CREATE FUNCTION public.bad(n int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "CREATE TABLE api.checked (n int CHECK (public.bad(n)))",
        "INSERT INTO api.checked VALUES (1)",
        "CREATE OR REPLACE FUNCTION public.bad(n int) RETURNS bool LANGUAGE sql IMMUTABLE "
        "AS 'SELECT 1 / 0 = 1'",
    )
    await save(deployed, file)
    before = await fetch(deployed, DATABASES)
    with pytest.raises(BackupError, match=r"pg_restore: error: .*division by zero"):
        await replace_database(deployed, file, PASSWORDS)
    assert await fetch(deployed, DATABASES) == before
