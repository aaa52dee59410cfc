"""The tables by which a database, or a dump of one, is known to be docker-job's."""

from collections.abc import Iterable

from operations.wiring import SERVICES
from shared.postgres.pool import Connection, connect

Table = tuple[str, str]
"""Schema and name."""

NEEDED: frozenset[Table] = frozenset(
    (service.NAME, table) for service in SERVICES for table in ("outbox", "inbox", "parked")
) | {("migrations", "applied")}
"""The tables of a docker-job database since the first release."""

OTHERS = "set DOCKER_JOB_DATABASE_URL, or DOCKER_JOB_DATA_DIR, to those that docker-job runs on"

TABLES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""


async def read_tables(conn: Connection) -> set[Table]:
    """List every table of the database, by schema and name."""
    return {(row["schemaname"], row["tablename"]) for row in await conn.fetch(TABLES)}


async def tables_of(dsn: str) -> set[Table]:
    """List every table of the database of *dsn*. Raises asyncpg's errors."""
    conn = await connect(dsn)
    try:
        return await read_tables(conn)
    finally:
        await conn.close(timeout=5)


def missing_tables(needed: Iterable[Table], found: set[Table]) -> str | None:
    """Describe the tables of *needed* that are not in *found*; None if all of them are."""
    missing = sorted(set(needed) - found)
    if not missing:
        return None
    schemas = ", ".join(dict.fromkeys(schema for schema, _ in missing))
    return f"of the schemas {schemas} tables are missing, like {'.'.join(missing[0])}"
