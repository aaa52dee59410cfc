"""The report of a service's dead letters, as an event, which the API keeps and shows.

    parked rows, the broker's <service>.dead ──report_dead_letters──▶ DeadLettersReported ──▶ api

A report is the whole picture and replaces those before it, so a report that is lost or comes twice
harms nothing: the next one comes with the next change, or after an hour. Letters that are reports
themselves are left out: reports whose handler fails would otherwise cause reports for ever.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from shared.bus.port import Bus, BusUnavailable, DeadMessage, KeepsDeadMessages
from shared.events.events import DeadLettersReported
from shared.events.letters import ReportedLetter
from shared.log import get_logger
from shared.messaging import store as messages
from shared.messaging.letter_text import plain
from shared.postgres.pool import Connection, Database, Transaction

LETTERS = 100
"""Letters in a report, at most; with what is shown of each it stays far below 1 MiB."""

BROKER_LETTERS = 20
"""Of these from the broker, at most: each is a message of up to 1 MiB, and all are read at once."""

BODY_BYTES = 2048
ERROR_CHARACTERS = 500

AGAIN = timedelta(hours=1)
"""A report is repeated after this time, although nothing has changed."""

FIRST = timedelta(minutes=1)
"""A service that never had a letter says so after this time: during an upgrade, the API that reads
it may still be of the release before, which does not know the event."""

SECONDS_PER_LETTER = 0.3
"""The pause behind a report for each of its letters: while thousands fail and are retried, the
outbox must not fill with pictures of them."""

LOOK = timedelta(seconds=30)
"""The shortest time between two questions to the broker."""

REPORT_NAME = DeadLettersReported.__name__

_JOB_ID = re.compile(r'"job_id"\s*:\s*([0-9]{1,18})\b')


def letter_of_row(row: Any) -> ReportedLetter:
    """Make the letter of a row of `NEWEST_PARKED`."""
    jobs = _jobs_in(row["body"])
    return ReportedLetter(
        event_id=str(row["event_id"]),
        event=plain(row["name"]),
        place="parked",
        state=row["state"],
        error=_cut(row["error"]),
        body=_text(row["body"]),
        body_bytes=row["body_bytes"],
        tries=row["tries"],
        job_id=jobs[0] if jobs else None,  # one event, and its own is the first
        since=row["parked_at"],
    )


def letter_of_message(dead: DeadMessage) -> ReportedLetter:
    """Make the letter of a message that the broker has given up on: a batch, perhaps of one job."""
    jobs = set(_jobs_in(dead.message.body))
    return ReportedLetter(
        event_id=plain(dead.message.id),
        event=plain(dead.message.name),
        place="broker",
        state="dead",
        error=_cut(dead.why),
        body=_text(dead.message.body),
        body_bytes=len(dead.message.body),
        job_id=jobs.pop() if len(jobs) == 1 else None,
        since=dead.dead_since,
    )


def _jobs_in(body: bytes) -> list[int]:
    return [int(each) for each in _JOB_ID.findall(body.decode(errors="replace"))]


def _text(body: bytes) -> str:
    return plain(body[:BODY_BYTES].decode(errors="backslashreplace"))


def _cut(error: str) -> str:
    text = plain(error)
    return text if len(text) <= ERROR_CHARACTERS else f"{text[: ERROR_CHARACTERS - 1]}…"


class LastReport(Struct, frozen=True):
    """The row of the last report; `sequence` is 0 before the first one."""

    sequence: int
    digest: bytes
    letters: int
    reported_at: datetime


NEVER = LastReport(0, b"", 0, datetime.min.replace(tzinfo=UTC))


@dataclass
class _Seen:
    """The memory of this process: when its first pass was, and what it saw of the dead queue."""

    first_at: datetime | None = None
    count: int = 0
    letters: Sequence[ReportedLetter] = ()
    asked_at: datetime = NEVER.reported_at
    looked_at: datetime = NEVER.reported_at


@dataclass(frozen=True)
class DeadLetterReporter:
    """The sweep of one service."""

    db: Database
    bus: Bus
    _seen: _Seen = field(default_factory=_Seen)

    async def report_dead_letters(self) -> datetime | None:
        """Publish the letters if they have changed since the last report, of whichever replica."""
        now = self.db.clock.now()
        first_until = (self._seen.first_at or now) + FIRST
        self._seen.first_at = first_until - FIRST
        async with self.db.connection() as conn:
            last = await load_last_report(conn)
        paced = last.reported_at + timedelta(seconds=SECONDS_PER_LETTER * last.letters)
        if last.reported_at <= now < paced:  # not if the clock was turned back
            return paced
        await self._ask_broker(now)
        async with self.db.transaction() as tx:
            total, letters = await load_newest(tx.conn)
            total += self._seen.count
            letters = [*self._seen.letters, *letters][:LETTERS]
            digest = hashlib.sha256(msgspec.json.encode((total, letters))).digest()
            if digest == last.digest and now < last.reported_at + AGAIN:
                return None
            if not total and last is NEVER and now < first_until:
                return first_until
            new = LastReport(last.sequence + 1, digest, len(letters), now)
            if not await save_report(tx, new):
                return now  # a replica has reported meanwhile
            report = DeadLettersReported(
                service=self.db.schema,
                sequence=new.sequence,
                reported_at=now,
                total=total,
                letters=tuple(letters),
            )
            await messages.publish(tx, [report])
        return None

    async def _ask_broker(self, now: datetime) -> None:
        """Count the broker's letters; look at them if their number is another, or after an hour.

        While the broker is away, what was seen last counts: nothing is redriven meanwhile.
        """
        seen = self._seen
        if not isinstance(self.bus, KeepsDeadMessages) or now < seen.asked_at + LOOK:
            return
        seen.asked_at = now
        try:
            count = await self.bus.count_dead(self.db.schema)
            if count == seen.count and (not count or now < seen.looked_at + AGAIN):
                return
            found = await self.bus.find_dead(self.db.schema, BROKER_LETTERS) if count else ()
        except BusUnavailable as error:
            self._log.warning("the broker's dead letters are not seen", error=str(error))
            return
        letters = [letter_of_message(each) for each in found]
        seen.letters = [each for each in letters if each.event != REPORT_NAME]
        seen.count, seen.looked_at = count, now

    @property
    def _log(self) -> Any:
        return get_logger(service=self.db.schema, part="dead letters")


LAST_REPORT = "SELECT sequence, digest, letters, reported_at FROM dead_letter_report"


async def load_last_report(conn: Connection) -> LastReport:
    """Load the last report; `NEVER` if there was none."""
    row = await conn.fetchrow(LAST_REPORT)
    return NEVER if row is None else LastReport(**dict(row))


# The next number, or nothing: of two replicas one reports.
SAVE_REPORT = """
INSERT INTO dead_letter_report AS last (sequence, digest, letters, reported_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (only_row) DO UPDATE SET sequence = excluded.sequence, digest = excluded.digest,
    letters = excluded.letters, reported_at = excluded.reported_at
WHERE last.sequence = excluded.sequence - 1
"""


async def save_report(tx: Transaction, new: LastReport) -> bool:
    """Record that *new* is published; return False if the one before is no longer the last."""
    done = await tx.conn.execute(
        SAVE_REPORT, new.sequence, new.digest, new.letters, new.reported_at
    )
    return done.endswith(" 1")


COUNT_LETTERS = "SELECT count(*) FROM parked WHERE name <> $1"

# The newest may be found by a sort of all: they are few, but for a disaster.
NEWEST_PARKED = """
SELECT event_id, name, substring(body FROM 1 FOR $2) AS body, octet_length(body) AS body_bytes,
    state, tries, error, parked_at
FROM parked WHERE name <> $1 ORDER BY parked_at DESC, event_id LIMIT $3
"""


async def load_newest(conn: Connection) -> tuple[int, list[ReportedLetter]]:
    """Count the parked events, and load the newest of them."""
    total: int = await conn.fetchval(COUNT_LETTERS, REPORT_NAME)
    if not total:
        return 0, []
    rows = await conn.fetch(NEWEST_PARKED, REPORT_NAME, BODY_BYTES, LETTERS)
    return total, [letter_of_row(row) for row in rows]
