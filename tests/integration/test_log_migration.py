"""Logs of a deployment that is upgraded: rows from before 0004_logs.sql, and later ones."""

from pathlib import Path

from services.api import NAME
from tests.support.rows.old_schema import old_schema

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"

OLD_ROWS = """
INSERT INTO jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status,
                         attempt, trace, created_at, log_bytes)
VALUES (1, 'alpine', '{}', '{}', now(), 'UTC', 'RUNNING', 2, 'trace', now(), 99);
INSERT INTO attempts (job_id, number, state, due_at, entered, cause, ended_at)
VALUES (1, 1, 'ended', now(), '{}', 'lost', now()), (1, 2, 'running', now(), '{}', NULL, NULL);
INSERT INTO log_batches (job_id, attempt, seq, lines) VALUES
    (1, 1, 1, '[["2026-01-01T00:00:00+00:00", "stdout", "first"]]'),
    (1, 2, 1, '[["2026-01-01T00:00:00+00:00", "stdout", "a"],
                ["2026-01-01T00:00:00+00:00", "stderr", "\u20ac"]]'),
    (1, 2, 3, '[["2026-01-01T00:00:00+00:00", "stdout", ""]]');
"""


async def test_the_log_of_an_attempt_under_way_goes_on_behind_what_it_had_printed(
    database_url: str, tmp_path: Path
) -> None:
    async with old_schema(database_url, tmp_path, SQL, "000[123]_*.sql") as old:
        await old.conn.execute(OLD_ROWS)
        await old.migrate("0004_logs.sql")
        rows = await old.conn.fetch(
            "SELECT number, log_seq, log_bytes, log_lines, log_head_bytes, log_head_lines, stop_by "
            "FROM attempts ORDER BY number"
        )
        kept = await old.conn.fetchval("SELECT count(*) FROM log_batches")
    assert [tuple(row) for row in rows] == [(1, 0, 0, 0, 0, 0, None), (2, 3, 7, 3, 7, 3, None)]
    assert kept == 3
