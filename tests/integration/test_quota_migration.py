"""What runs when a deployment gets 0010_quotas.sql counts for its quotas from then on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.launcher import NAME
from tests.support.rows.old_schema import old_schema

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"
ADD = """
INSERT INTO launches (job_id, attempt, state, requirements, trace, launch_token, params, asked_at,
    batch_token, batch_place, told, settled_at, due_at, wanted_at, instance_id, launched_at, report)
SELECT id, 1, state, needs, '', 't', '{"max_lifetime_seconds": 3600}', at, 'b', 0,
    CASE state WHEN 'launched' THEN id END, CASE state WHEN 'launched' THEN at END,
    CASE state WHEN 'asked' THEN at END, at, CASE state WHEN 'launched' THEN 'i-' || id END,
    CASE state WHEN 'launched' THEN at END, report
FROM (SELECT $1::bigint AS id, $2::text AS state, $3::jsonb AS needs, $4::timestamptz AS at,
    $5::jsonb AS report) new
"""
OUTBOX = "CREATE TABLE outbox (name text, body bytea)"
REPORT = (
    '{"instance_type": "m5.large", "hourly_price_usd": 0.04, '
    '"other_prices": {"public_ipv4_hourly_usd": 0.005, "volume_hourly_usd": null}}'
)
FOUND = """
SELECT job_id, created_by, vcpus, hourly_usd, instance_id, ended_at, ask_at IS NOT NULL AS is_asked
FROM charges ORDER BY job_id
"""


async def test_launches_of_the_release_before_are_counted(
    database_url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    async with old_schema(database_url, tmp_path, SQL, "0001*.sql") as old:
        await old.conn.execute(OUTBOX)
        await old.migrate("000[2-9]*.sql")
        await old.conn.execute(
            "INSERT INTO batches (token, size, plan, plan_hash, asked_at, due_at) "
            """VALUES ('b', 1, '{"vcpus": {"m5.large": 2}}', '', $1, $1)""",
            now,
        )
        own = '{"created_by": "1f2e3d4c", "resources": {"vcpus": 8}}'
        await old.conn.execute(ADD, 1, "launched", own, now, REPORT)
        await old.conn.execute(ADD, 2, "launched", "{}", now, None)
        await old.conn.execute(ADD, 3, "launched", "{}", now - timedelta(hours=2), REPORT)
        await old.conn.execute(ADD, 4, "asked", own, now, None)
        await old.migrate("*.sql")
        assert [tuple(row) for row in await old.conn.fetch(FOUND)] == [
            (1, "1f2e3d4c", 2, 0.045, "i-1", None, True),
            (2, None, 1, None, "i-2", None, True),
            (4, "1f2e3d4c", 8, None, None, None, False),
        ]
