"""Each table that grows with traffic has autovacuum thresholds of its own."""

from operations.wiring import SERVICES
from shared.postgres.pool import connect

SCHEMAS = tuple(service.NAME for service in SERVICES)
FEW_ROWS = {
    "api.api_keys",
    "api.daily_savings",
    "api.daily_totals",
    "api.key_projects",
    "api.launch_breaker",
    "api.offers",
    "api.project_totals",
    "api.outages",
    "api.retention",
    "api.job_secrets",
    "launcher.pauses",
    "launcher.pricing",
    "launcher.quotas",
    "launcher.tellings",
    "launcher.troubles",
    "reaper.heard_tellings",
    "reaper.listings",
    "reaper.missed_launches",
    "reaper.refused_calls",
    "reaper.sightings",
    "reaper.watermark",
}
"""Tables of one row, or of so few that a fifth of them is nothing."""

OWN = """
SELECT n.nspname || '.' || c.relname AS name,
    EXISTS (SELECT FROM unnest(c.reloptions) AS option
            WHERE option LIKE 'autovacuum_vacuum_scale_factor=%') AS has_own
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = ANY ($1::text[])
"""


async def test_every_table_that_grows_has_thresholds_of_its_own(database_url: str) -> None:
    conn = await connect(database_url)
    try:
        rows = await conn.fetch(OWN, SCHEMAS)
    finally:
        await conn.close()
    assert {row["name"] for row in rows if not row["has_own"]} - FEW_ROWS == set()
    assert len(rows) > 25
