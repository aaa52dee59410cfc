"""The sweeps over availability: record that agents can be answered, and prune old outages."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.api.jobs import availability_store
from services.api.jobs.answering import Doubt, Record, decide_record, unreceived_seconds
from services.api.jobs.availability import Outage, record_seconds
from services.api.jobs.model import JobRules
from services.api.jobs.reception import Reception
from shared.log import get_logger
from shared.postgres.pool import Database

_log = get_logger(service="api", part="availability")

KEEP_OUTAGES = timedelta(days=30)
"""Longer than any attempt may be watched without a report between two outages."""


@dataclass
class AvailabilitySweeps:
    """The API's sweeps over its availability; each replica records for all."""

    db: Database
    rules: JobRules
    reception: Reception
    doubt: Doubt | None = field(default=None, init=False)
    """The doubt of the last pass of this process, for which it made no record."""

    async def record_availability(self) -> datetime:
        """Record that agents can be answered now, unless it is in doubt, and outages after gaps."""
        received = self.reception.take()
        async with self.db.transaction() as tx:
            await availability_store.touch_what_reports_write(tx)
            before = await availability_store.lock_availability(tx)
            lately = tx.now - timedelta(seconds=unreceived_seconds(self.rules))
            live = await availability_store.load_liveness(tx.conn, lately)
            record = decide_record(before, received, live, tx.now, self.rules)
            await availability_store.save_record(tx, record)
        self._log_record(record)
        return tx.now + timedelta(seconds=record_seconds(self.rules))

    def _log_record(self, record: Record) -> None:
        if record.doubt is not None and record.doubt != self.doubt:
            _log.warning(
                "agents may not be answered: their silence is not counted now", because=record.doubt
            )
        self.doubt = record.doubt
        if record.outage is not None:
            _log_outage(
                "agents could not be answered; their silence in this time does not count",
                record.outage,
            )
        if record.claims_outage is not None:
            _log_outage(
                "claims could not be answered; this time does not count as boot time",
                record.claims_outage,
            )

    async def prune_outages(self) -> None:
        """Delete the outages that no attempt needs any more."""
        async with self.db.connection() as conn:
            await availability_store.prune_outages(conn, self.db.clock.now() - KEEP_OUTAGES)


def _log_outage(text: str, outage: Outage) -> None:
    _log.warning(
        text,
        began_at=outage.began_at.isoformat(),
        ended_at=outage.ended_at.isoformat(),
        seconds=round((outage.ended_at - outage.began_at).total_seconds(), 1),
    )
