"""Logs of a deployment that is upgraded: what was kept before 0004_logs.sql, and what follows."""

import shutil
import uuid
from pathlib import Path
from typing import Any

from services.api import NAME
from shared.db import connect
from shared.migrations import Schema, migrate

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"

OLD_ROWS = """
INSERT INTO {room}.jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status,
                         attempt, trace, created_at, log_bytes)
VALUES (1, 'alpine', '{{}}', '{{}}', now(), 'UTC', 'RUNNING', 2, 'trace', now(), 99);
INSERT INTO {room}.attempts (job_id, number, state, due_at, entered, cause, ended_at)
VALUES (1, 1, 'ended', now(), '{{}}', 'lost', now()), (1, 2, 'running', now(), '{{}}', NULL, NULL);
INSERT INTO {room}.log_batches (job_id, attempt, seq, lines) VALUES
    (1, 1, 1, '[["2026-01-01T00:00:00+00:00", "stdout", "first"]]'),
    (1, 2, 1, '[["2026-01-01T00:00:00+00:00", "stdout", "a"],
                ["2026-01-01T00:00:00+00:00", "stderr", "\u20ac"]]'),
    (1, 2, 3, '[["2026-01-01T00:00:00+00:00", "stdout", ""]]');
"""

COUNTED = """
SELECT number, log_seq, log_bytes, log_lines, log_head_bytes, log_head_lines, stop_by
FROM {room}.attempts ORDER BY number
"""


async def test_the_log_of_an_attempt_under_way_goes_on_behind_what_it_had_printed(
    database_url: str, tmp_path: Path
) -> None:
    room = f"room_{uuid.uuid4().hex[:8]}"
    directory = tmp_path / "api" / "sql"
    directory.mkdir(parents=True)
    for path in SQL.glob("000[123]_*.sql"):
        shutil.copy(path, directory)
    schema = Schema(name=room, password="secret", directories=(directory,))
    conn: Any = await connect(database_url)
    try:
        await migrate(database_url, [schema])
        await conn.execute(OLD_ROWS.format(room=room))
        shutil.copy(SQL / "0004_logs.sql", directory)
        await migrate(database_url, [schema])
        rows = await conn.fetch(COUNTED.format(room=room))
        kept = await conn.fetchval(f"SELECT count(*) FROM {room}.log_batches")  # noqa: S608
    finally:
        await conn.execute(f'DROP SCHEMA IF EXISTS "{room}" CASCADE')
        await conn.execute(f'DROP ROLE IF EXISTS "{room}"')
        await conn.close()
    assert [tuple(row) for row in rows] == [(1, 0, 0, 0, 0, 0, None), (2, 3, 7, 3, 7, 3, None)]
    assert kept == 3
