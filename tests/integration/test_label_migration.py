"""Labels of a deployment that is upgraded to 0006_labels.sql."""

import shutil
import uuid
from pathlib import Path
from typing import Any

from services.api import NAME
from shared.db import connect
from shared.migrations import Schema, migrate

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"

# As every release takes jobs in, those before 0007 too.
JOB = """
INSERT INTO {room}.jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status,
                         attempt, trace, created_at)
VALUES ($1, 'alpine', '{{}}', $2, now(), 'UTC', 'SCHEDULED', 1, 'trace', now())
"""


async def test_jobs_are_found_by_their_labels_whichever_release_took_them_in(
    database_url: str, tmp_path: Path
) -> None:
    room = f"room_{uuid.uuid4().hex[:8]}"
    directory = tmp_path / "api" / "sql"
    directory.mkdir(parents=True)
    for path in SQL.glob("000[1-6]_*.sql"):
        shutil.copy(path, directory)
    schema = Schema(name=room, password="secret", directories=(directory,))
    conn: Any = await connect(database_url)
    longest = "\U0001f600" * 256
    try:
        await migrate(database_url, [schema])
        await conn.execute(JOB.format(room=room), 1, '{"team": "a", "env": "x"}')
        await conn.execute(JOB.format(room=room), 2, "{}")
        await conn.execute(JOB.format(room=room), 3, f'{{"{longest}": "{longest}"}}')
        shutil.copy(SQL / "0006_labels.sql", directory)
        await migrate(database_url, [schema])
        await conn.execute(JOB.format(room=room), 4, '{"team": "a"}')
        await conn.execute(f'SET search_path = "{room}"')
        rows = await conn.fetch("SELECT job_id, name, value FROM job_labels ORDER BY 1, 2")
    finally:
        await conn.execute(f'DROP SCHEMA IF EXISTS "{room}" CASCADE')
        await conn.execute(f'DROP ROLE IF EXISTS "{room}"')
        await conn.close()
    assert [tuple(row) for row in rows] == [
        (1, "env", "x"),
        (1, "team", "a"),
        (3, longest, longest),
        (4, "team", "a"),
    ]
