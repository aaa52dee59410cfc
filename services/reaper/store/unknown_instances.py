"""SQL over what the launcher has told, and over what only the cloud shows."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.reaper.model import Watched, Watermark
from shared.compute.port import Instance
from shared.events.events import LaunchesReported
from shared.postgres.pool import Transaction

HEAR_TELLINGS = """
INSERT INTO heard_tellings (told) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING
"""


async def hear_tellings(tx: Transaction, told: Sequence[int]) -> None:
    """Remember that the tellings with the numbers *told* are here."""
    await tx.conn.execute(HEAR_TELLINGS, told)


RAISE_WATERMARK = """
UPDATE watermark SET before = $1, told = $2
WHERE before IS NULL OR (before, told) < ($1::timestamptz, $2::bigint)
"""


async def raise_watermark(tx: Transaction, event: LaunchesReported) -> None:
    """Keep the watermark if it is the greatest so far."""
    await tx.conn.execute(RAISE_WATERMARK, event.before, event.launch_sequence)


# Told numbers have no gaps, so the n-th beyond heard_through is heard_through + n for as long as
# none is missing. Done by a sweep and not by the handler, where every launch would queue for the
# one row.
ADVANCE_HEARD = """
UPDATE watermark SET heard_through = greatest(heard_through, (
    SELECT max(beyond.told) FROM (
        SELECT told, row_number() OVER (ORDER BY told) AS place FROM heard_tellings
        WHERE told > watermark.heard_through) AS beyond
    WHERE beyond.told = watermark.heard_through + beyond.place))
RETURNING before, told, heard_through
"""

FORGET_TELLINGS = "DELETE FROM heard_tellings WHERE told <= $1"


async def advance_watermark(tx: Transaction) -> Watermark:
    """Count through which telling every one is here; returns the watermark."""
    row = await tx.conn.fetchrow(ADVANCE_HEARD)
    watermark = msgspec.convert(dict(row or {}), Watermark)
    await tx.conn.execute(FORGET_TELLINGS, watermark.heard_through)
    return watermark


SEE = """
INSERT INTO sightings (instance_id, first_seen_at, last_seen_at)
SELECT instance_id, $2, $2 FROM unnest($1::text[]) AS new (instance_id)
ON CONFLICT (instance_id) DO UPDATE SET last_seen_at = $2
RETURNING instance_id, first_seen_at
"""


async def see(tx: Transaction, instance_ids: Sequence[str]) -> dict[str, datetime]:
    """These are in the list and nobody knows them; returns when each was first seen so."""
    rows = await tx.conn.fetch(SEE, sorted(instance_ids), tx.now)
    return {row["instance_id"]: row["first_seen_at"] for row in rows}


ENDED_AMONG = """
SELECT job_id, attempt FROM ended_attempts
JOIN unnest($1::bigint[], $2::integer[]) AS asked (job_id, attempt) USING (job_id, attempt)
"""


async def ended_among(
    tx: Transaction, instances: Sequence[Instance]
) -> set[tuple[int | None, int | None]]:
    """Job and attempt of those *instances* whose attempt has ended."""
    # An instance that does not say whose it is falls out of the join.
    rows = await tx.conn.fetch(
        ENDED_AMONG, [each.job_id for each in instances], [each.attempt for each in instances]
    )
    return {(row["job_id"], row["attempt"]) for row in rows}


# Where the launcher's word has come in between, the instance is known, and DO NOTHING leaves it
# alone.
ADOPT = """
INSERT INTO instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    hourly_price_usd, launched_at, dies_by, end_cause, due_at)
SELECT instance_id, job_id, attempt, launch_token, trace, 'ending', market, hourly_price_usd,
    launched_at, dies_by, end_cause, $11
FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[],
    $7::double precision[], $8::timestamptz[], $9::timestamptz[], $10::text[])
    AS new (instance_id, job_id, attempt, launch_token, trace, market, hourly_price_usd,
        launched_at, dies_by, end_cause)
ON CONFLICT DO NOTHING
RETURNING instance_id
"""


async def adopt(tx: Transaction, orphans: Sequence[Watched]) -> list[str]:
    """Take over *orphans*, to be ended now; returns the ids of those that are still nobody's."""
    fields = (
        *("instance_id", "job_id", "attempt", "launch_token", "trace", "market"),
        *("hourly_price_usd", "launched_at", "dies_by", "end_cause"),
    )
    columns = [[getattr(each, field) for each in orphans] for field in fields]
    rows = await tx.conn.fetch(ADOPT, *columns, tx.now)
    return [row["instance_id"] for row in rows]


PRUNE_SIGHTINGS = """
DELETE FROM sightings WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM sightings WHERE last_seen_at < $1 ORDER BY last_seen_at LIMIT $2))
"""


async def prune_sightings(tx: Transaction, before: datetime, limit: int) -> bool:
    """Forget what was last seen before *before*; True where there may be more."""
    result = await tx.conn.execute(PRUNE_SIGHTINGS, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
