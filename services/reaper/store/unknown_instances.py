"""SQL over the launches received, the watermark, and instances that only the cloud shows."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.reaper.model import Watched, Watermark
from shared.compute.port import Instance
from shared.events.events import LaunchesReported
from shared.postgres.pool import Transaction, json_or_null

ADD_RECEIVED = """
INSERT INTO heard_tellings (told) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING
"""


async def add_received(tx: Transaction, launch_sequences: Sequence[int]) -> None:
    """Record that the launches with these numbers are received."""
    await tx.conn.execute(ADD_RECEIVED, launch_sequences)


RAISE_WATERMARK = """
UPDATE watermark SET before = $1, told = $2
WHERE before IS NULL OR (before, told) < ($1::timestamptz, $2::bigint)
"""


async def raise_watermark(tx: Transaction, event: LaunchesReported) -> None:
    """Keep the watermark if it is the greatest so far."""
    await tx.conn.execute(RAISE_WATERMARK, event.before, event.launch_sequence)


# Launch sequences have no gaps, so the n-th beyond heard_through is heard_through + n as long as
# none is missing. A sweep does it, since in the handler every launch would wait for this one row.
ADVANCE_RECEIVED = """
UPDATE watermark SET heard_through = greatest(heard_through, (
    SELECT max(beyond.told) FROM (
        SELECT told, row_number() OVER (ORDER BY told) AS place FROM heard_tellings
        WHERE told > watermark.heard_through) AS beyond
    WHERE beyond.told = watermark.heard_through + beyond.place))
RETURNING before, told AS launch_sequence, heard_through AS received_through
"""

FORGET_RECEIVED = "DELETE FROM heard_tellings WHERE told <= $1"


async def advance_watermark(tx: Transaction) -> Watermark:
    """Advance the number through which every launch is received; return the watermark."""
    row = await tx.conn.fetchrow(ADVANCE_RECEIVED)
    watermark = msgspec.convert(dict(row or {}), Watermark)
    await tx.conn.execute(FORGET_RECEIVED, watermark.received_through)
    return watermark


ADD_SIGHTINGS = """
INSERT INTO sightings (instance_id, first_seen_at, last_seen_at)
SELECT instance_id, $2, $2 FROM unnest($1::text[]) AS new (instance_id)
ON CONFLICT (instance_id) DO UPDATE SET last_seen_at = $2
RETURNING instance_id, first_seen_at
"""


async def add_sightings(tx: Transaction, instance_ids: Sequence[str]) -> dict[str, datetime]:
    """Record that the list shows these unknown instances; return when each was first seen."""
    rows = await tx.conn.fetch(ADD_SIGHTINGS, sorted(instance_ids), tx.now)
    return {row["instance_id"]: row["first_seen_at"] for row in rows}


ENDED_AMONG = """
SELECT job_id, attempt FROM ended_attempts
JOIN unnest($1::bigint[], $2::integer[]) AS asked (job_id, attempt) USING (job_id, attempt)
"""


async def ended_among(
    tx: Transaction, instances: Sequence[Instance]
) -> set[tuple[int | None, int | None]]:
    """Return job and attempt of those *instances* whose attempt has ended."""
    # An instance without job and attempt falls out of the join.
    rows = await tx.conn.fetch(
        ENDED_AMONG, [each.job_id for each in instances], [each.attempt for each in instances]
    )
    return {(row["job_id"], row["attempt"]) for row in rows}


# If its launch was received meanwhile, the instance is known, and DO NOTHING leaves it as it is.
ADOPT = """
INSERT INTO instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    hourly_price_usd, launched_at, dies_by, end_cause, due_at, other_prices)
SELECT instance_id, job_id, attempt, launch_token, trace, 'ending', market, hourly_price_usd,
    launched_at, dies_by, end_cause, $11, other_prices::jsonb
FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[],
    $7::double precision[], $8::timestamptz[], $9::timestamptz[], $10::text[], $12::text[])
    AS new (instance_id, job_id, attempt, launch_token, trace, market, hourly_price_usd,
        launched_at, dies_by, end_cause, other_prices)
ON CONFLICT DO NOTHING
RETURNING instance_id
"""


async def adopt(tx: Transaction, orphans: Sequence[Watched]) -> list[str]:
    """Add *orphans*, to be ended now; return the ids of those that were still unknown."""
    fields = (
        *("instance_id", "job_id", "attempt", "launch_token", "trace", "market"),
        *("hourly_price_usd", "launched_at", "dies_by", "end_cause"),
    )
    columns = [[getattr(each, field) for each in orphans] for field in fields]
    others = [json_or_null(each.other_prices) for each in orphans]
    rows = await tx.conn.fetch(ADOPT, *columns, tx.now, others)
    return [row["instance_id"] for row in rows]


PRUNE_SIGHTINGS = """
DELETE FROM sightings WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM sightings WHERE last_seen_at < $1 ORDER BY last_seen_at LIMIT $2))
"""


async def prune_sightings(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete what was last seen before *before*; return True if there may be more."""
    result = await tx.conn.execute(PRUNE_SIGHTINGS, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
