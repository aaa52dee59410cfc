"""The sweep over consoles that were empty, partial, or unreadable when their instances ended.

EC2 posts the console of a terminated instance minutes after its end: canonical/pycloudlib#143 and
#155, coreos/mantle#773 and #802, coreos/coreos-assembler#1580. So it is read again with growing
pauses for about ten minutes, and the end is published again with it; the first one waited for
nothing.

    claim, commit ─▶ read ─▶ keep, publish the end again, or postpone

Killed in between: they are read again when the lease ends.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.reaper.config import ReaperConfig
from services.reaper.consoles import MOST_AT_ONCE, ConsoleReader
from services.reaper.model import ConsoleRead, KeptConsole
from services.reaper.store import console_reads, consoles
from shared.compute.port import Compute
from shared.console_text import is_console
from shared.events import cloudevents
from shared.messaging.store import append_outbox
from shared.postgres.pool import Transaction
from shared.runtime.passes import next_pass
from shared.runtime.service import Ports

LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class LateConsoles:
    """The sweep. *jitter* gives numbers in [0, 1)."""

    config: ReaperConfig
    ports: Ports
    compute: Compute
    jitter: Callable[[], float] = random.random

    async def read_consoles(self) -> datetime | None:
        """Read the consoles that are due; return when the next one is."""
        async with self.ports.db.transaction() as tx:
            claimed = await console_reads.claim_reads(tx, tx.now + LEASE, MOST_AT_ONCE)
            ends = await console_reads.find_ends(tx, [each.instance_id for each in claimed])
            wanted = {end.instance_id for _, end in ends}
            unwanted = [each.instance_id for each in claimed if each.instance_id not in wanted]
            await console_reads.end_reads(tx, unwanted)
        reads = [each for each in claimed if each.instance_id in wanted]
        if reads:
            reader = ConsoleReader(self.ports.db, self.compute)
            found = await reader.texts_of([each.instance_id for each in reads])
            self.ports.points.reached("reaper.consoles_read")
            await self._record(reads, found)
        async with self.ports.db.transaction() as tx:
            next_due = await console_reads.next_read(tx)
        return next_pass(tx.now, full=len(claimed) == MOST_AT_ONCE, next_due=next_due)

    async def _record(self, reads: Sequence[ConsoleRead], found: Mapping[str, KeptConsole]) -> None:
        async with self.ports.db.transaction() as tx:
            kept = await consoles.keep_consoles(tx, found)
            await self._publish(tx, kept)
            due = decide_reads(reads, found, kept, tx.now, self.jitter(), self.config)
            await console_reads.postpone_reads(tx, due)
            over = [each.instance_id for each in reads if each.instance_id not in due]
            await console_reads.end_reads(tx, over)
        if kept:
            self.ports.wakeups.wake("relay_outbox")

    async def _publish(self, tx: Transaction, kept: Sequence[str]) -> None:
        """Publish the ends of these again, with what is kept of their consoles now."""
        if kept:
            envelopes = [
                cloudevents.wrap(end, source=tx.source, at=tx.now, trace=trace)
                for trace, end in await console_reads.find_ends(tx, kept)
            ]
            await append_outbox(tx, envelopes)


def decide_reads(
    reads: Sequence[ConsoleRead],
    found: Mapping[str, KeptConsole],
    kept: Sequence[str],
    now: datetime,
    jitter: float,
    config: ReaperConfig,
) -> dict[str, datetime]:
    """Return when each of *reads* is due again; one that is left out is over.

    A console that is not *kept* is no longer than the early one: EC2 has posted nothing new.
    """
    over = {each for each in kept if is_console(found[each].output)}
    return {
        each.instance_id: now
        + timedelta(seconds=config.console_reads.delay(each.tries + 1, jitter))
        for each in reads
        if each.tries < config.console_tries and each.instance_id not in over
    }
