"""Labels of a deployment that is upgraded to 0006_labels.sql."""

from pathlib import Path

from services.api import NAME
from tests.support.rows.old_schema import old_schema

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"

# As every release takes jobs in, those before 0006 too.
JOB = """
INSERT INTO jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status,
                         attempt, trace, created_at)
VALUES ($1, 'alpine', '{}', $2, now(), 'UTC', 'SCHEDULED', 1, 'trace', now())
"""


async def test_jobs_are_found_by_their_labels_whichever_release_took_them_in(
    database_url: str, tmp_path: Path
) -> None:
    longest = "\U0001f600" * 256
    async with old_schema(database_url, tmp_path, SQL, "000[1-5]_*.sql") as old:
        await old.conn.execute(JOB, 1, '{"team": "a", "env": "x"}')
        await old.conn.execute(JOB, 2, "{}")
        await old.conn.execute(JOB, 3, f'{{"{longest}": "{longest}"}}')
        await old.migrate("0006_labels.sql")
        await old.conn.execute(JOB, 4, '{"team": "a"}')
        rows = await old.conn.fetch("SELECT job_id, name, value FROM job_labels ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [
        (1, "env", "x"),
        (1, "team", "a"),
        (3, longest, longest),
        (4, "team", "a"),
    ]
