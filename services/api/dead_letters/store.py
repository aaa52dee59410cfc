"""SQL of `reported_dead_letters`: the last report of each service."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from shared.events.events import DeadLettersReported
from shared.events.letters import ReportedLetter
from shared.postgres.pool import Connection, Transaction

_letters = msgspec.json.Decoder(tuple[ReportedLetter, ...])


class KeptReport(Struct, frozen=True):
    """A row; `letters` are the newest of `total`."""

    service: str
    reported_at: datetime
    total: int
    letters: tuple[ReportedLetter, ...]


# Reports arrive in any order: a later one is never replaced by one before it.
SAVE_LETTERS = """
INSERT INTO reported_dead_letters AS kept (service, sequence, reported_at, total, letters)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (service) DO UPDATE SET sequence = excluded.sequence,
    reported_at = excluded.reported_at, total = excluded.total, letters = excluded.letters
WHERE kept.sequence < excluded.sequence
"""


async def save_letters(tx: Transaction, report: DeadLettersReported) -> None:
    """Keep *report*, unless a later one of its service is kept."""
    await tx.conn.execute(
        SAVE_LETTERS,
        report.service,
        report.sequence,
        report.reported_at,
        report.total,
        msgspec.json.encode(report.letters),
    )


LOAD_LETTERS = """
SELECT service, reported_at, total, letters FROM reported_dead_letters ORDER BY service
"""


async def load_reports(conn: Connection) -> Sequence[KeptReport]:
    """Load the last report of each service that has reported."""
    return [
        KeptReport(
            row["service"], row["reported_at"], row["total"], _letters.decode(row["letters"])
        )
        for row in await conn.fetch(LOAD_LETTERS)
    ]
