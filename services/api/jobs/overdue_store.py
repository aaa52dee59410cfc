"""SQL over attempts that are due and of which no launch is reported."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from services.api.jobs.store import Owner
from shared.postgres.pool import Connection, Transaction

# Not one that the broker has answered and does not take: it says nothing about the others.
OLDEST_UNSENT = """
SELECT created_at FROM outbox WHERE published_at IS NULL AND tries = 0 ORDER BY id LIMIT 1
"""


async def oldest_unsent(conn: Connection) -> datetime | None:
    """Return the time of our oldest event that the broker has not confirmed; None: there is none.

    A long transaction may commit an older event later.
    """
    created_at: datetime | None = await conn.fetchval(OLDEST_UNSENT)
    return created_at


# The first three conditions are those of the index.
FIND_OVERDUE = """
SELECT job_id, number FROM attempts
WHERE check_at IS NULL AND instance_id IS NULL AND ended_at IS NULL
    AND due_at <= $1 AND state = ANY ($4::text[]) AND coalesce(waiting_until, due_at) <= $1
    AND (ask_again_at IS NULL OR ask_again_at <= $2)
ORDER BY due_at LIMIT (SELECT $3::integer)
"""


async def find_overdue(
    conn: Connection, before: datetime, now: datetime, limit: int, states: Sequence[str]
) -> list[Owner]:
    """Find up to *limit* attempts in *states* that were due *before*, the longest overdue first.

    Not those that are asked for again later than *now*.
    """
    rows = await conn.fetch(FIND_OVERDUE, before, now, limit, states)
    return [Owner(row["job_id"], row["number"]) for row in rows]


FIND_UNCONFIRMED = """
SELECT job_id, number FROM attempts
WHERE instance_id IS NOT NULL AND instance_gone_at IS NULL AND ended_at > $1 AND ended_at <= $2
    AND (ask_again_at IS NULL OR ask_again_at <= $3)
ORDER BY ended_at LIMIT (SELECT $4::integer)
"""


async def find_unconfirmed(
    conn: Connection, after: datetime, before: datetime, now: datetime, limit: int
) -> list[Owner]:
    """Find up to *limit* attempts that ended in between, without a confirmed end of the instance.

    Not those that are asked for again later than *now*.
    """
    rows = await conn.fetch(FIND_UNCONFIRMED, after, before, now, limit)
    return [Owner(row["job_id"], row["number"]) for row in rows]


class NextAsk(Struct, frozen=True):
    """An attempt that is asked for now, and when to ask again."""

    owner: Owner
    ask_again_at: datetime


MARK_ASKED = """
UPDATE attempts SET ask_again_at = new.ask_again_at
FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[]) AS new (job_id, number, ask_again_at)
WHERE attempts.job_id = new.job_id AND attempts.number = new.number
    AND (attempts.ask_again_at IS NULL OR attempts.ask_again_at <= $4)
RETURNING attempts.job_id, attempts.number
"""


async def mark_asked(tx: Transaction, asks: Sequence[NextAsk]) -> set[Owner]:
    """Record when each is asked for again; return those that another replica has not asked for.

    The transaction has locked their jobs.
    """
    rows = await tx.conn.fetch(
        MARK_ASKED,
        [each.owner.job_id for each in asks],
        [each.owner.attempt for each in asks],
        [each.ask_again_at for each in asks],
        tx.now,
    )
    return {Owner(row["job_id"], row["number"]) for row in rows}
