"""Dead letters for operators: listing, redriving and dropping the parked events of a service.

`shared.messaging.inbox` writes these rows and retries the waiting ones.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from shared.bus.port import DeadMessage
from shared.events.letters import LetterPlace, LetterState
from shared.postgres.pool import Connection, Transaction

STATES: tuple[LetterState, ...] = ("waiting", "dead")


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One event that has not taken effect.

    *tries* counts its handler's failures (None: its handler never ran), *since* is when it was
    parked or dead-lettered.
    """

    service: str
    place: LetterPlace
    state: LetterState
    event_id: str
    name: str
    raw: bytes
    tries: int | None
    error: str
    since: datetime | None
    due_at: datetime | None = None


def of_broker(service: str, dead: DeadMessage) -> DeadLetter:
    """Make the letter of a message in the dead queue of *service*."""
    return DeadLetter(
        service=service,
        place="broker",
        state="dead",
        event_id=dead.message.id,
        name=dead.message.name,
        raw=dead.message.body,
        tries=None,
        error=dead.why,
        since=dead.dead_since,
    )


class LetterFilter(Struct, frozen=True, kw_only=True):
    """A filter of letters: all its conditions must hold. None: any."""

    states: tuple[LetterState, ...] = STATES
    name: str | None = None
    event_ids: tuple[str, ...] | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Return whether *letter* passes; the statements below do the same in SQL."""
        return (
            letter.state in self.states
            and self.name in (None, letter.name)
            and (self.event_ids is None or letter.event_id in self.event_ids)
        )


FIND_PARKED = """
SELECT event_id, name, body, state, tries, error, parked_at, due_at FROM parked
WHERE state = ANY ($1::text[]) AND ($2::text IS NULL OR name = $2)
  AND ($3::uuid[] IS NULL OR event_id = ANY ($3))
ORDER BY parked_at, event_id LIMIT $4
"""


async def find_parked(
    conn: Connection, service: str, which: LetterFilter, limit: int
) -> list[DeadLetter]:
    """Return up to *limit* parked events of *service*, the oldest first."""
    rows = await conn.fetch(FIND_PARKED, which.states, which.name, which.event_ids, limit)
    return [
        DeadLetter(
            service=service,
            place="parked",
            state=row["state"],
            event_id=str(row["event_id"]),
            name=row["name"],
            raw=row["body"],
            tries=row["tries"],
            error=row["error"],
            since=row["parked_at"],
            due_at=row["due_at"],
        )
        for row in rows
    ]


COUNT_PARKED = """
SELECT count(*) FROM parked
WHERE state = ANY ($1::text[]) AND ($2::text IS NULL OR name = $2)
  AND ($3::uuid[] IS NULL OR event_id = ANY ($3))
"""


async def count_parked(conn: Connection, which: LetterFilter) -> int:
    """Count the parked events that pass the filter."""
    count: int = await conn.fetchval(COUNT_PARKED, which.states, which.name, which.event_ids)
    return count


# In the order of the ids: this may lock many rows, the retrying sweep locks few.
REDRIVE_PARKED = """
UPDATE parked SET state = 'waiting', tries = 0, unfinished = 0, due_at = $4
WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM parked
    WHERE state = ANY ($1::text[]) AND ($2::text IS NULL OR name = $2)
      AND ($3::uuid[] IS NULL OR event_id = ANY ($3))
    ORDER BY event_id FOR UPDATE))
RETURNING event_id
"""


async def redrive_parked(tx: Transaction, which: LetterFilter) -> list[str]:
    """Make these due now, with all their tries again; return their ids."""
    rows = await tx.conn.fetch(REDRIVE_PARKED, which.states, which.name, which.event_ids, tx.now)
    return _ids(rows)


DROP_PARKED = """
DELETE FROM parked
WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM parked
    WHERE state = ANY ($1::text[]) AND ($2::text IS NULL OR name = $2)
      AND ($3::uuid[] IS NULL OR event_id = ANY ($3))
    ORDER BY event_id FOR UPDATE))
RETURNING event_id
"""


async def drop_parked(tx: Transaction, which: LetterFilter) -> list[str]:
    """Delete these for good; return their ids."""
    rows = await tx.conn.fetch(DROP_PARKED, which.states, which.name, which.event_ids)
    return _ids(rows)


def _ids(rows: Sequence[object]) -> list[str]:
    return sorted(str(row["event_id"]) for row in rows)  # type: ignore[index]
