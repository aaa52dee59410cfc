"""The scheduler's sweeps: fire due timers, prune settled ones."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.scheduler import store
from services.scheduler.config import SchedulerConfig
from services.scheduler.decisions import decide_request
from shared.events import cloudevents
from shared.messaging.store import append_outbox
from shared.runtime.passes import next_pass
from shared.runtime.service import Ports


@dataclass(frozen=True)
class TimerSweeps:
    """The sweeps over timers."""

    config: SchedulerConfig
    ports: Ports

    async def fire_due(self) -> datetime | None:
        """Fire every due timer and publish its attempt; return when the next timer is due.

        One transaction, since nothing outside is touched: a crash before the commit leaves the
        timers waiting, after it the events are in the outbox. The clock's time now decides: after a
        jump back a timer waits again; after downtime, or with a slow clock, it fires late. It fires
        once in each case, since `fired` is final.
        """
        async with self.ports.db.transaction() as tx:
            timers = await store.fire_due(tx, self.config.batch)
            await append_outbox(
                tx,
                [
                    cloudevents.wrap(
                        decide_request(timer), source=tx.source, at=tx.now, trace=timer.trace
                    )
                    for timer in timers
                ],
            )
            next_due = await store.next_due(tx)
            self.ports.points.reached("scheduler.fired_before_commit")
        self.ports.points.reached("scheduler.fired")
        if timers:
            self.ports.wakeups.wake("relay_outbox")
        return next_pass(tx.now, full=len(timers) == self.config.batch, next_due=next_due)

    async def prune_timers(self) -> datetime | None:
        """Delete timers that were settled long ago."""
        async with self.ports.db.transaction() as tx:
            before = tx.now - timedelta(seconds=self.config.keep_seconds)
            more = await store.prune_settled(tx, before, self.config.prune_batch)
        return tx.now if more else None
