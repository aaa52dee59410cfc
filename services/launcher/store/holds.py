"""SQL over launches that wait for a quota."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from services.launcher.model import Launch
from services.launcher.quotas import Hold, Need
from shared.postgres.pool import Transaction

# The time of the hold does not count as waiting for capacity, like that of a pause.
HOLD_LAUNCHES = """
UPDATE launches SET due_at = new.due_at, last_error = new.message, held_by = new.held_by,
    needs_vcpus = new.vcpus, needs_hourly_usd = new.hourly_usd,
    delay_told_at = CASE WHEN new.published THEN $8 ELSE launches.delay_told_at END,
    queued_at = coalesce(launches.queued_at, launches.wanted_at), paused_from = $8,
    reason = 'quota_reached', tries = 0, to_change = NULL, lease_token = NULL
FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::text[], $5::text[], $6::integer[],
    $7::float8[], $9::boolean[])
    AS new (job_id, attempt, due_at, message, held_by, vcpus, hourly_usd, published)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def hold_launches(
    tx: Transaction, held: Sequence[tuple[Launch, Hold, Need]], published: Sequence[bool]
) -> None:
    """Let launches that *tx* has locked wait; *published*: whether an event reports it now."""
    await tx.conn.execute(
        HOLD_LAUNCHES,
        [launch.job_id for launch, _, _ in held],
        [launch.attempt for launch, _, _ in held],
        [hold.until for _, hold, _ in held],
        [hold.message for _, hold, _ in held],
        [hold.limit for _, hold, _ in held],
        [need.vcpus for _, _, need in held],
        [need.hourly_usd for _, _, need in held],
        tx.now,
        published,
    )


class HeldLaunch(Struct, frozen=True, kw_only=True):
    """A launch that waits for a quota, with what it needs."""

    job_id: int
    attempt: int
    created_by: str | None
    vcpus: int
    hourly_usd: float | None
    lifetime_seconds: float

    @property
    def need(self) -> Need:
        """Return what it needs."""
        return Need(
            created_by=self.created_by,
            vcpus=self.vcpus,
            hourly_usd=self.hourly_usd,
            lifetime_seconds=self.lifetime_seconds,
        )


# Some of each key: one with ten thousand must not hide the others.
FIND_HELD = """
SELECT job_id, attempt, created_by, vcpus, hourly_usd, lifetime_seconds FROM (
    SELECT job_id, attempt, requirements ->> 'created_by' AS created_by, needs_vcpus AS vcpus,
        needs_hourly_usd AS hourly_usd, queued_at, due_at,
        (requirements ->> 'max_lifetime_seconds')::float8 AS lifetime_seconds,
        row_number() OVER (PARTITION BY requirements ->> 'created_by' ORDER BY queued_at, job_id)
            AS place
    FROM launches WHERE held_by IS NOT NULL AND state = 'wanted'
) held
WHERE place <= $2 AND due_at > $1 AND vcpus IS NOT NULL ORDER BY queued_at, job_id, attempt
"""


async def find_held(tx: Transaction, most_each: int) -> list[HeldLaunch]:
    """Return the launches that are held now, the oldest first: so many of each key, at most."""
    rows = await tx.conn.fetch(FIND_HELD, tx.now, most_each)
    return [msgspec.convert(dict(row), HeldLaunch) for row in rows]


# By the key alone: with a condition on what is held, Postgres might read all held launches.
RELEASE_HELD = """
UPDATE launches SET due_at = CASE
    WHEN held_by IS NOT NULL AND state = 'wanted' AND due_at > $3 THEN $3 ELSE due_at END
FROM unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
WHERE launches.job_id = own.job_id AND launches.attempt = own.attempt
"""


async def release_held(tx: Transaction, launches: Sequence[HeldLaunch], now: datetime) -> None:
    """Make held launches due now."""
    keys = [each.job_id for each in launches], [each.attempt for each in launches]
    await tx.conn.execute(RELEASE_HELD, *keys, now)
