"""SQL over charges: what each launch takes of the quotas, and the row whose lock orders admissions.

asked for ─▶ a row, with the most that the plan may cost ─ launched ─▶ with the instance's own
    └─ refused ─▶ no row                     its end ─▶ its cost, kept for this day and the next
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from services.launcher.quotas import Usage, day_of
from shared.events.events import InstanceTerminated
from shared.postgres.pool import Connection, Transaction

LATE = timedelta(minutes=10)
"""An instance whose time limit passed so long ago has ended then, whatever was reported."""

LOCK_QUOTAS = "SELECT sequence FROM quotas FOR UPDATE"


async def lock_quotas(tx: Transaction) -> None:
    """Wait for admissions that are under way; none other is until this transaction ends."""
    await tx.conn.execute(LOCK_QUOTAS)


# One whose time limit passed long ago is over; until there is an answer, a launch may have one.
# A price is that of an hour. $1: now, $2 to $3: the UTC day, $4: the price where none is known.
# $5: a time limit before it passed long ago.
USAGE = """
SELECT created_by,
    count(*) FILTER (WHERE live) AS instances,
    coalesce(sum(vcpus) FILTER (WHERE live), 0) AS vcpus,
    coalesce(sum(spent), 0) AS spent_usd,
    coalesce(sum(greatest(whole - spent, 0)), 0) AS promised_usd,
    count(*) FILTER (WHERE whole > spent) AS promising
FROM (
    SELECT created_by, vcpus, live,
        CASE WHEN live THEN price * so_far
            ELSE coalesce(cost_usd, price * greatest(life, least_seconds)) * share END AS spent,
        CASE WHEN live THEN price * greatest(so_far, at_most,
            CASE WHEN began_at >= $2 THEN least_seconds END) ELSE 0 END AS whole
    FROM (
        SELECT created_by, vcpus, began_at, ends_by, least_seconds, cost_usd, ended AS ended_at,
            ended IS NULL AS live, coalesce(hourly_usd, $4::float8) / 3600 AS price,
            greatest(extract(epoch FROM $1::timestamptz - greatest(began_at, $2))::float8, 0)
                AS so_far,
            extract(epoch FROM least(ends_by, $3::timestamptz) - greatest(began_at, $2))::float8
                AS at_most,
            extract(epoch FROM ended - began_at)::float8 AS life,
            CASE WHEN began_at >= $2 THEN 1 ELSE extract(epoch FROM ended - $2)::float8
                / extract(epoch FROM ended - began_at)::float8 END AS share
        FROM (
            SELECT *, CASE WHEN ended_at IS NOT NULL THEN ended_at
                WHEN instance_id IS NOT NULL AND ends_by <= $5 THEN ends_by END AS ended
            FROM charges WHERE ended_at IS NULL OR ended_at > $2::timestamptz
        ) known
        WHERE ended IS NULL OR ended > $2
    ) charge
) charge
GROUP BY created_by
"""


async def load_usage(
    conn: Connection, now: datetime, unknown_price_usd: float
) -> dict[str | None, Usage]:
    """Return what is used now, by API key (None: by jobs without one).

    One that ended counts with its cost: with the part of it that its life has in this UTC day.
    """
    begin, end = day_of(now)
    rows = await conn.fetch(USAGE, now, begin, end, unknown_price_usd, now - LATE)
    return {
        row["created_by"]: Usage(
            instances=row["instances"],
            vcpus=row["vcpus"],
            spent_usd=float(row["spent_usd"]),
            promised_usd=float(row["promised_usd"]),
            promising=row["promising"],
        )
        for row in rows
    }


class Charge(Struct, frozen=True, kw_only=True):
    """A row to write, of a launch that is asked for, or launched as *instance_id*."""

    job_id: int
    attempt: int
    created_by: str | None
    vcpus: int
    hourly_usd: float | None
    began_at: datetime
    ends_by: datetime
    least_seconds: int = 0
    instance_id: str | None = None


# The end of its instance may have been received before its launch is recorded: then it stays.
SAVE_CHARGES = """
INSERT INTO charges AS known (job_id, attempt, created_by, vcpus, hourly_usd, began_at, ends_by,
    least_seconds, instance_id, ask_at)
SELECT job_id, attempt, created_by, vcpus, hourly_usd, began_at, ends_by, least_seconds,
    instance_id, CASE WHEN instance_id IS NOT NULL THEN $10::timestamptz END
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::float8[],
    $6::timestamptz[], $7::timestamptz[], $8::integer[], $9::text[])
    AS new (job_id, attempt, created_by, vcpus, hourly_usd, began_at, ends_by, least_seconds,
        instance_id)
ORDER BY job_id, attempt
ON CONFLICT (job_id, attempt) DO UPDATE SET created_by = excluded.created_by,
    vcpus = excluded.vcpus, hourly_usd = excluded.hourly_usd, began_at = excluded.began_at,
    ends_by = excluded.ends_by, least_seconds = excluded.least_seconds,
    instance_id = excluded.instance_id,
    ended_at = CASE WHEN known.instance_id = excluded.instance_id THEN known.ended_at END,
    cost_usd = CASE WHEN known.instance_id = excluded.instance_id THEN known.cost_usd END,
    ask_at = CASE WHEN known.instance_id = excluded.instance_id AND known.ended_at IS NOT NULL
        THEN NULL ELSE excluded.ask_at END
"""


async def save_charges(tx: Transaction, charges: Sequence[Charge], ask_at: datetime) -> None:
    """Write the rows of *charges*; of launched ones the cloud is asked from *ask_at* on."""
    if not charges:
        return
    fields = (
        *("job_id", "attempt", "created_by", "vcpus", "hourly_usd", "began_at", "ends_by"),
        *("least_seconds", "instance_id"),
    )
    columns = [[getattr(each, field) for each in charges] for field in fields]
    await tx.conn.execute(SAVE_CHARGES, *columns, ask_at)


DROP_CHARGES = """
DELETE FROM charges USING unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
WHERE charges.job_id = own.job_id AND charges.attempt = own.attempt
"""


async def drop_charges(tx: Transaction, launches: Collection[tuple[int, int]]) -> None:
    """Remove the rows of launches (job and attempt) that were refused for certain."""
    if launches:
        keys = [job_id for job_id, _ in launches], [attempt for _, attempt in launches]
        await tx.conn.execute(DROP_CHARGES, *keys)


# In one order: two transactions must not wait for each other.
LOCK_CHARGES = """
SELECT FROM charges JOIN unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
    ON charges.job_id = own.job_id AND charges.attempt = own.attempt
ORDER BY charges.job_id, charges.attempt
FOR UPDATE OF charges
"""
END_CHARGES = """
UPDATE charges SET ask_at = NULL,
    ended_at = least(greatest(own.ended_at, charges.began_at), $6::timestamptz),
    instance_id = own.instance_id, cost_usd = coalesce(own.cost_usd, charges.cost_usd)
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::timestamptz[], $5::float8[])
    AS own (job_id, attempt, instance_id, ended_at, cost_usd)
WHERE charges.job_id = own.job_id AND charges.attempt = own.attempt
    AND (charges.instance_id IS NULL OR charges.instance_id = own.instance_id)
"""


async def end_charges(tx: Transaction, ended: Sequence[InstanceTerminated]) -> None:
    """Record the ends of instances and their costs; again changes nothing."""
    own = [each for each in ended if each.job_id is not None and each.attempt is not None]
    if not own:
        return
    keys = [each.job_id for each in own], [each.attempt for each in own]
    await tx.conn.execute(LOCK_CHARGES, *keys)
    await tx.conn.execute(
        END_CHARGES,
        *keys,
        [each.instance_id for each in own],
        [each.terminated_at for each in own],
        [each.cost_usd for each in own],
        tx.now,
    )


CLAIM_QUESTIONS = """
UPDATE charges SET ask_at = $2::timestamptz + least(greatest($2 - began_at, $4), $5)
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM charges WHERE ask_at <= $1 ORDER BY ask_at LIMIT (SELECT $3::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING job_id, attempt, instance_id, began_at
"""


async def claim_questions(
    tx: Transaction, limit: int, least: timedelta, most: timedelta
) -> dict[str, tuple[int, int, datetime]]:
    """Return job, attempt and beginning of instances of which the cloud is to be asked, by id.

    They are due again when their time has doubled, after *least* and *most* at the latest.
    """
    rows = await tx.conn.fetch(CLAIM_QUESTIONS, tx.now, tx.now, limit, least, most)
    return {row["instance_id"]: (row["job_id"], row["attempt"], row["began_at"]) for row in rows}


# Nothing has reported their ends, but their time limits passed long ago. The answer to a launch may
# take longer: it counts until then.
END_LATE = """
UPDATE charges SET ended_at = ends_by, ask_at = NULL
WHERE ended_at IS NULL AND ends_by <= $1
    AND (instance_id IS NOT NULL OR NOT EXISTS (SELECT FROM launches
        WHERE launches.job_id = charges.job_id AND launches.attempt = charges.attempt
            AND state = 'asked'))
"""
PRUNE_CHARGES = """
DELETE FROM charges WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM charges WHERE ended_at <= $1 ORDER BY ended_at LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""


async def prune_charges(tx: Transaction, limit: int) -> bool:
    """End what is past its time limit, delete what ended before yesterday; return True for more."""
    await tx.conn.execute(END_LATE, tx.now - LATE)
    before = day_of(tx.now)[0] - timedelta(days=1)
    result = await tx.conn.execute(PRUNE_CHARGES, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
