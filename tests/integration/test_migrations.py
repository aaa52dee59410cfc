"""Migrations on a real Postgres: once, in order, one at a time, never over existing data."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from operations import migrate_once
from operations.migrate import migrate_all, schemas
from operations.wiring import SERVICES
from services import api
from shared.postgres.migrations import (
    MigrationError,
    Schema,
    is_migrated,
    migrate,
    read_migrations,
)
from shared.postgres.pool import connect
from shared.settings import Settings
from shared.url import with_login
from tests.conftest import PASSWORDS


@pytest.fixture
async def name(database_url: str) -> AsyncIterator[str]:
    """Name a schema that the server has no role of, and has none of afterwards."""
    name = f"room_{uuid.uuid4().hex[:8]}"
    yield name
    conn = await connect(database_url)
    try:
        await conn.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
        await conn.execute(f'DROP ROLE IF EXISTS "{name}"')
    finally:
        await conn.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make a directory of migrations with one file in it."""
    directory = tmp_path / "room" / "sql"
    directory.mkdir(parents=True)
    (directory / "0001_things.sql").write_text("CREATE TABLE things (id bigint PRIMARY KEY);")
    return directory


def schema(name: str, directory: Path, password: str = "secret") -> Schema:
    return Schema(name=name, password=password, directories={directory.parent.name: directory})


async def as_role(database_url: str, name: str, sql: str, password: str = "secret") -> object:
    """Return the result of *sql* under the service's own login."""
    conn = await connect(with_login(database_url, name, password))
    try:
        return await conn.fetchval(sql)
    finally:
        await conn.close()


async def test_each_file_is_applied_once_in_the_order_of_its_number(
    database_url: str, name: str, directory: Path
) -> None:
    assert await migrate(database_url, [schema(name, directory)]) == [
        f"{name}: room/0001_things.sql"
    ]
    assert await migrate(database_url, [schema(name, directory)]) == []
    (directory / "0003_more.sql").write_text("ALTER TABLE things ADD COLUMN b int;")
    (directory / "0002_more.sql").write_text("ALTER TABLE things ADD COLUMN a int;")
    assert await migrate(database_url, [schema(name, directory)]) == [
        f"{name}: room/0002_more.sql",
        f"{name}: room/0003_more.sql",
    ]
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'things'"
    assert await as_role(database_url, name, columns) == 3


async def test_it_is_migrated_when_every_file_is_applied(
    database_url: str, name: str, directory: Path
) -> None:
    assert not await is_migrated(database_url, [schema(name, directory)])
    await migrate(database_url, [schema(name, directory)])
    assert await is_migrated(database_url, [schema(name, directory)])
    (directory / "0002_more.sql").write_text("ALTER TABLE things ADD COLUMN a int;")
    assert not await is_migrated(database_url, [schema(name, directory)])


async def test_the_api_waits_for_a_migration_only_if_one_is_missing(database_url: str) -> None:
    settings = Settings({"DOCKER_JOB_DATABASE_URL": database_url})
    assert await migrate_once.is_done(settings)  # the template of the tests is migrated
    conn = await connect(database_url)
    try:
        last = "DELETE FROM migrations.applied WHERE source = 'api/0001_jobs.sql'"
        await conn.execute(last)
    finally:
        await conn.close()
    assert not await migrate_once.is_done(settings)
    nowhere = Settings({"DOCKER_JOB_DATABASE_URL": "postgresql://127.0.0.1:1/docker_job"})
    assert not await migrate_once.is_done(nowhere)  # then the migration itself waits


async def test_a_file_that_was_changed_after_it_was_applied_is_refused_by_name(
    database_url: str, name: str, directory: Path
) -> None:
    await migrate(database_url, [schema(name, directory)])
    (directory / "0001_things.sql").write_text("CREATE TABLE things (id text PRIMARY KEY);")
    with pytest.raises(MigrationError, match=r"room/0001_things\.sql was changed after"):
        await migrate(database_url, [schema(name, directory)])


async def test_a_file_that_fails_leaves_nothing_of_itself_and_what_came_before_it(
    database_url: str, name: str, directory: Path
) -> None:
    (directory / "0002_broken.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(database_url, [schema(name, directory)])
    (directory / "0002_broken.sql").write_text("CREATE TABLE half (id int);")
    assert await migrate(database_url, [schema(name, directory)]) == [
        f"{name}: room/0002_broken.sql"
    ]


async def test_several_at_once_apply_each_file_once(
    database_url: str, name: str, directory: Path
) -> None:
    for number in range(2, 6):
        (directory / f"000{number}_more.sql").write_text(
            f"ALTER TABLE things ADD COLUMN c{number} int;"
        )
    runs = await asyncio.gather(
        *(migrate(database_url, [schema(name, directory)]) for _ in range(4))
    )
    assert sorted(len(applied) for applied in runs) == [0, 0, 0, 5]


async def test_a_role_that_was_made_elsewhere_is_never_taken_over(
    database_url: str, name: str, directory: Path
) -> None:
    conn = await connect(database_url)
    try:
        await conn.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'theirs'")
        with pytest.raises(MigrationError, match="did not make"):
            await migrate(database_url, [schema(name, directory)])
        assert await as_role(database_url, name, "SELECT 1", password="theirs") == 1
    finally:
        await conn.close()


async def test_a_changed_password_is_set_and_the_old_one_is_good_for_nothing(
    database_url: str, name: str, directory: Path
) -> None:
    await migrate(database_url, [schema(name, directory, "old")])
    await migrate(database_url, [schema(name, directory, "new' quoted")])
    assert await as_role(database_url, name, "SELECT 1", password="new' quoted") == 1


async def test_a_file_with_another_kind_of_name_is_refused(directory: Path) -> None:
    (directory / "later.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="must be named like 0001_what_it_does"):
        read_migrations(schema("room", directory))


async def test_a_migrated_database_is_migrated_again_without_effect(database_url: str) -> None:
    assert await migrate_all(database_url, PASSWORDS) == []
    assert {each.name for each in schemas(PASSWORDS)} == {each.NAME for each in SERVICES}


def test_a_released_file_is_recorded_under_the_same_name_wherever_it_lies() -> None:
    """Under another name it would be applied to an existing database once more."""
    for each in schemas(PASSWORDS):
        recorded = {migration.source.split("/")[0] for migration in read_migrations(each)}
        assert recorded == {"shared", each.name}


async def test_an_upgrade_to_recorded_availability_begins_at_the_last_heartbeat(
    database_url: str, name: str, tmp_path: Path
) -> None:
    old = tmp_path / "api" / "sql"
    old.mkdir(parents=True)
    files = sorted(Path(api.__file__).parent.glob("sql/*.sql"))
    for path in (each for each in files if each.name < "0005"):
        shutil.copy(path, old)
    await migrate(database_url, [schema(name, old)])
    conn = await connect(database_url)
    try:
        await conn.execute(f'SET search_path = "{name}"')
        await conn.execute(A_RUNNING_ATTEMPT)
        await migrate(database_url, [schema(name, files[0].parent)])
        assert await conn.fetchval("SELECT answered_until FROM availability") == datetime(
            2026, 1, 1, tzinfo=UTC
        )
    finally:
        await conn.close()


A_RUNNING_ATTEMPT = """
INSERT INTO jobs (docker_image, env_vars, labels, scheduled_for, timezone, status, attempt, trace,
                  created_at)
VALUES ('alpine', '{}', '{}', '2026-01-01Z', 'UTC', 'RUNNING', 1, 't', '2026-01-01Z');
INSERT INTO attempts (job_id, number, state, due_at, entered, heartbeat_at)
VALUES (1, 1, 'running', '2026-01-01Z', '{}', '2026-01-01Z');
"""
