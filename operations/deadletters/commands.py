"""The four commands over the mailboxes of the services.

A place that cannot be read (a missing schema, the broker) is named, the others are handled, and the
exit status shows it. "No dead letters" is printed only if every place was read.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from operations.deadletters import showing
from operations.deadletters.mailboxes import Mailbox
from shared.bus.port import BusUnavailable
from shared.bus.rabbitmq.dead_queue import DeadQueue, HeldMessage, open_dead_queue
from shared.crash_points import Points
from shared.messaging import dead_letters
from shared.messaging.dead_letters import DeadLetter, LetterFilter
from shared.messaging.letter_text import plain
from shared.messaging.parked import REPORT, RETRY
from shared.postgres.pool import Connection, Database, Transaction, is_not_ours
from shared.postgres.wakeups import notify

DONE, NOT_FOUND, UNAVAILABLE = 0, 1, 69  # 69 is EX_UNAVAILABLE of sysexits.h

SEARCHED = 100_000
"""Messages of a dead queue that are searched for an id, at most."""

IDENTITY = "deadletters"

Print = Callable[[str], None]


class MailboxUnreadable(Exception):
    """A service's parked rows cannot be read. The message is one line for the operator."""


@dataclass(frozen=True)
class DeadLetterService:
    """The commands; *out* prints results, *warn* errors."""

    boxes: Sequence[Mailbox]
    points: Points
    out: Print
    warn: Print

    async def list_letters(self, which: LetterFilter, limit: int) -> int:
        """List up to *limit* of each service and place."""
        letters: list[DeadLetter] = []
        unseen = 0
        status = DONE
        for box in self.boxes:
            try:
                async with _connection(box) as conn:
                    parked = await dead_letters.find_parked(conn, box.service, which, limit)
                    unseen += await dead_letters.count_parked(conn, which) - len(parked)
                letters += parked
            except MailboxUnreadable as error:
                status = self._unreadable(error)
            try:
                async with _dead_queue(box, limit) as queue:
                    letters += [each for each, _ in _matching(box, queue, which)]
                    unseen += queue.left if queue else 0
            except BusUnavailable as error:
                status = self._unavailable(box, error)
        if letters:
            for line in showing.table(letters):
                self.out(line)
        elif status == DONE and not unseen:
            self.out("no dead letters")
        if unseen:
            self.out(f"and {unseen} more: see --limit and the filters")
        return status

    async def show(self, which: LetterFilter) -> int:
        """Show everything about the letters with these ids."""
        found: set[str] = set()
        status = DONE
        for box in self.boxes:
            letters: list[DeadLetter] = []
            try:
                async with _connection(box) as conn:
                    letters += await dead_letters.find_parked(conn, box.service, which, SEARCHED)
            except MailboxUnreadable as error:
                status = self._unreadable(error)
            try:
                async with _dead_queue(box, SEARCHED) as queue:
                    letters += [each for each, _ in _matching(box, queue, which)]
                    status = self._check_limit(box, queue) or status
            except BusUnavailable as error:
                status = self._unavailable(box, error)
            for letter in letters:
                if found:
                    self.out("")
                found.add(letter.event_id)
                for line in showing.details(letter):
                    self.out(line)
        return self._conclude(which, found, status)

    async def redrive(self, which: LetterFilter) -> int:
        """Pass them to their handlers again."""

        async def parked(box: Mailbox) -> list[str]:
            async with _transaction(box) as tx:
                ids = await dead_letters.redrive_parked(tx, which)
                if ids:  # sent with the commit: the service reads at once, not after its interval
                    await notify(tx.conn, box.service, IDENTITY, (RETRY, REPORT))
            return ids

        async def broker(queue: DeadQueue, chosen: Sequence[HeldMessage]) -> None:
            await queue.put_back(chosen, self.points)

        return await self._settle(which, "redriven", parked, broker)

    async def drop(self, which: LetterFilter) -> int:
        """Delete them: they never take effect."""

        async def parked(box: Mailbox) -> list[str]:
            async with _transaction(box) as tx:
                ids = await dead_letters.drop_parked(tx, which)
                if ids:
                    await notify(tx.conn, box.service, IDENTITY, (REPORT,))
            return ids

        return await self._settle(which, "dropped", parked, DeadQueue.drop)

    async def _settle(
        self,
        which: LetterFilter,
        done: str,
        parked: Callable[[Mailbox], Awaitable[list[str]]],
        broker: Callable[[DeadQueue, Sequence[HeldMessage]], Awaitable[None]],
    ) -> int:
        """Call *parked* and *broker* for every mailbox, and print that each letter is *done*."""
        found: set[str] = set()
        status = DONE
        for box in self.boxes:
            try:
                found.update(self._report(done, box, await parked(box)))
            except MailboxUnreadable as error:
                status = self._unreadable(error)
            try:
                async with _dead_queue(box, SEARCHED) as queue:
                    chosen = _matching(box, queue, which)
                    if queue and chosen:
                        await broker(queue, [each for _, each in chosen])
                    status = self._check_limit(box, queue) or status
                found.update(self._report(done, box, [each.event_id for each, _ in chosen]))
            except BusUnavailable as error:
                status = self._unavailable(box, error)
        return self._conclude(which, found, status)

    def _report(self, done: str, box: Mailbox, ids: Sequence[str]) -> Sequence[str]:
        for event_id in ids:
            self.out(f"{done} {box.service} {event_id}")
        return ids

    def _unavailable(self, box: Mailbox, error: BusUnavailable) -> int:
        self.warn(f"the broker's {box.service}.dead is unavailable: {plain(str(error))}")
        return UNAVAILABLE

    def _unreadable(self, error: MailboxUnreadable) -> int:
        self.warn(str(error))
        return UNAVAILABLE

    def _check_limit(self, box: Mailbox, queue: DeadQueue | None) -> int:
        """Warn if the dead queue holds more than was searched; return the status."""
        if queue is None or not queue.left:
            return DONE
        self.warn(
            f"the broker's {box.service}.dead was searched up to {SEARCHED} messages, and "
            f"holds {queue.left} more"
        )
        return UNAVAILABLE

    def _conclude(self, which: LetterFilter, found: set[str], status: int) -> int:
        """Name the ids that were not found; without ids, report if there was no letter.

        Returns the exit status: *status*, unless an id is missing everywhere.
        """
        if which.event_ids is None:
            if not found and status == DONE:
                self.out("no dead letters match")
            return status
        missing = [each for each in which.event_ids if each not in found]
        where = "" if status == DONE else " in the places that could be read"
        for event_id in missing:
            self.warn(f"no dead letter {event_id}{where}")
        return NOT_FOUND if missing and status == DONE else status


@contextlib.contextmanager
def _reading(box: Mailbox) -> Iterator[Database]:
    """Yield the database of *box*. Raises `MailboxUnreadable`."""
    if isinstance(box.db, Exception):
        raise _mailbox_unreadable(box, box.db) from box.db
    try:
        yield box.db
    except Exception as error:
        if not is_not_ours(error):
            raise
        raise _mailbox_unreadable(box, error) from error


def _mailbox_unreadable(box: Mailbox, error: Exception) -> MailboxUnreadable:
    return MailboxUnreadable(
        f"the parked events of {box.service} could not be read "
        f"({plain(str(error))}): is this the database of docker-job, and has its "
        "migration run?"
    )


@contextlib.asynccontextmanager
async def _connection(box: Mailbox) -> AsyncIterator[Connection]:
    with _reading(box) as db:
        async with db.connection() as conn:
            yield conn


@contextlib.asynccontextmanager
async def _transaction(box: Mailbox) -> AsyncIterator[Transaction]:
    with _reading(box) as db:
        async with db.transaction() as tx:
            yield tx


@contextlib.asynccontextmanager
async def _dead_queue(box: Mailbox, limit: int) -> AsyncIterator[DeadQueue | None]:
    """Open the dead queue of *box*; None if the bus has none."""
    if box.bus_url is None:
        yield None
        return
    async with open_dead_queue(box.bus_url, box.service, limit) as queue:
        yield queue


def _matching(
    box: Mailbox, queue: DeadQueue | None, which: LetterFilter
) -> list[tuple[DeadLetter, HeldMessage]]:
    both = [
        (dead_letters.of_broker(box.service, each), each)
        for each in (queue.messages if queue else ())
    ]
    return [(letter, message) for letter, message in both if which.fits(letter)]
