"""What a deployment keeps once it has 0012_retention.sql."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from services.api import NAME
from tests.support.rows.old_schema import old_schema

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"
KEPT = "SELECT jobs_days, logs_days FROM retention"

JOB = """
INSERT INTO jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status, attempt,
    trace, created_at)
VALUES (1, 'alpine', '{}', '{}', now(), 'UTC', 'SCHEDULED', 1, 'trace', now())
"""
DRAWN = "SELECT nextval('jobs_id_seq')"
API_KEY = """
INSERT INTO api_keys (prefix, name, scope, key_hash, created_at)
VALUES ('a', 'me', 'read', '', now())
"""


async def test_a_new_deployment_keeps_jobs_for_90_days_and_logs_for_30(
    database_url: str, tmp_path: Path
) -> None:
    async with old_schema(database_url, tmp_path, SQL, "*.sql") as new:
        [kept] = await new.conn.fetch(KEPT)
    assert tuple(kept) == (90, 30)


@pytest.mark.parametrize(
    "used", [[DRAWN, JOB], [DRAWN], [JOB], [API_KEY]], ids=["jobs", "ids", "one job", "a key"]
)
async def test_a_deployment_that_is_upgraded_keeps_everything(
    database_url: str, tmp_path: Path, used: Sequence[str]
) -> None:
    async with old_schema(database_url, tmp_path, SQL, "000*.sql") as old:
        for statement in used:
            await old.conn.execute(statement)
        await old.migrate("*.sql")
        [kept] = await old.conn.fetch(KEPT)
    assert tuple(kept) == (None, None)
