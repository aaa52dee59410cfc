"""SQL of `audit`. The acceptance of jobs adds its rows itself, in its one statement."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from services.api.audit.acts import Action, Actor
from shared.postgres.pool import Connection, Transaction

ADD_ACTS = """
INSERT INTO audit (at, action, key, key_name, project, address, job_id, subject)
SELECT $1, $2, $3, $4, $5, $6, job_id, $8 FROM unnest($7::bigint[]) AS acted (job_id)
"""


async def add_act(
    tx: Transaction,
    actor: Actor,
    action: Action,
    *,
    job_id: int | None = None,
    subject: str | None = None,
) -> None:
    """Add one act, in the transaction that does it."""
    who = (actor.key, actor.key_name, actor.project, actor.address)
    await tx.conn.execute(ADD_ACTS, tx.now, action, *who, [job_id], subject)


class Entry(Struct, frozen=True, kw_only=True):
    """A row of `audit`."""

    id: int
    at: datetime
    action: str
    key: str | None
    key_name: str | None
    project: str | None
    address: str
    job_id: int | None
    subject: str | None


class AuditFilter(Struct, frozen=True, kw_only=True):
    """The conditions on an entry; None: any. *before* is an id."""

    action: str | None = None
    key: str | None = None
    project: str | None = None
    job_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


_ENTRIES = """
SELECT id, at, action, key, key_name, project, address, job_id, subject FROM audit
WHERE ($1::text IS NULL OR action = $1) AND ($2::text IS NULL OR key = $2)
    AND ($3::text IS NULL OR project = $3)
    AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
    AND ($6::bigint IS NULL OR id < $6)
"""
_NEWEST = "ORDER BY id DESC LIMIT (SELECT $7::integer)"
FIND_ENTRIES = f"{_ENTRIES} {_NEWEST}"
# Apart, so that the plan for one job walks the job's own index.
FIND_ENTRIES_OF_JOB = f"{_ENTRIES} AND job_id = $8 {_NEWEST}"


async def find_entries(conn: Connection, wanted: AuditFilter, limit: int) -> list[Entry]:
    """Find up to *limit* entries, the newest first."""
    values = [
        *(wanted.action, wanted.key, wanted.project, wanted.since, wanted.until, wanted.before),
        limit,
    ]
    if wanted.job_id is None:
        rows = await conn.fetch(FIND_ENTRIES, *values)
    else:
        rows = await conn.fetch(FIND_ENTRIES_OF_JOB, *values, wanted.job_id)
    return [Entry(**row) for row in rows]


# With the condition of the table's trigger in its own words: its clock and time zone are the
# database's, and one younger row among the chosen would fail the whole statement.
PRUNE_ENTRIES = """
DELETE FROM audit WHERE id = ANY (ARRAY(
    SELECT id FROM audit WHERE at < $1 AND at <= now() - interval '30 days'
    ORDER BY id LIMIT (SELECT $2::integer)))
"""


async def prune_entries(conn: Connection, before: datetime, limit: int) -> bool:
    """Remove entries older than *before*, up to *limit*; return whether there may be more."""
    return bool(await conn.execute(PRUNE_ENTRIES, before, limit) == f"DELETE {limit}")


def columns_of(acts: Sequence[tuple[Actor, Action]]) -> tuple[list[str | None], ...]:
    """Return *acts* as columns: action, key, its name, its project, address."""
    return (
        [action for _, action in acts],
        [actor.key for actor, _ in acts],
        [actor.key_name for actor, _ in acts],
        [actor.project for actor, _ in acts],
        [actor.address for actor, _ in acts],
    )
