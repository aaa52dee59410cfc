"""The sweep over instances that lists do not show: each is asked for by its id.

    claim, commit ─▶ confirm ─▶ record: terminated (and published), or still not confirmed

Killed in between: they are asked for again after the interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.reaper.absence import decide_absences, unconfirmed_event
from services.reaper.model import NotFoundFor
from services.reaper.store import absences
from services.reaper.sweeps import InstanceSweeps
from shared.compute.port import ComputeError, Instance, NotFound
from shared.events import cloudevents
from shared.log import get_logger
from shared.messaging.store import append_outbox
from shared.postgres.pool import Transaction
from shared.runtime.passes import next_pass


@dataclass(frozen=True)
class Confirmations:
    """The sweep; *instances* records the ends that it finds."""

    instances: InstanceSweeps

    async def confirm_missing(self) -> datetime | None:
        """Ask the cloud for each missing instance by its id, and record what is proven."""
        config, ports = self.instances.config, self.instances.ports
        async with ports.db.transaction() as tx:
            again = tx.now + timedelta(seconds=config.ask_seconds)
            claimed = await absences.claim_missing(tx, again, config.batch)
        if not claimed:
            return None
        ports.points.reached("reaper.asking")
        answers = await self._ask([each.instance_id for each in claimed])
        ports.points.reached("reaper.answered")
        async with ports.db.transaction() as tx:
            missing = await absences.lock_missing(tx, list(answers))
            rows = [each for each in claimed if each.instance_id in missing]
            found = decide_absences(rows, answers, tx.now, self.instances.rules)
            published = await self.instances.record_terminated(tx, found.terminated)
            await absences.save_not_found(tx, found.not_found)
            await absences.clear_not_found(tx, found.found)
            published |= await self._report(tx, found.not_found)
        if published:
            ports.wakeups.wake("relay_outbox")
        first = [each.watched.instance_id for each in found.not_found if each.seconds == 0]
        if first:
            self._logger.warning(
                "neither listed nor found by id, which proves no end yet", instances=first
            )
        return next_pass(tx.now, full=len(claimed) == config.batch, next_due=again)

    async def _report(self, tx: Transaction, not_found: Sequence[NotFoundFor]) -> bool:
        """Publish what waits for a confirmation; return whether there was anything."""
        envelopes = [
            cloudevents.wrap(event, source=tx.source, at=tx.now, trace=each.watched.trace)
            for each in not_found
            if (event := unconfirmed_event(each)) is not None
        ]
        await append_outbox(tx, envelopes)
        return bool(envelopes)

    async def _ask(self, ids: list[str]) -> Mapping[str, Instance | NotFound]:
        """Return the cloud's answers; empty if it does not answer."""
        instances = self.instances
        try:
            return await instances.calls.answer("confirm", instances.compute.confirm(ids))
        except ComputeError as error:
            self._logger.warning("confirm failed", instances=len(ids), error=str(error))
            return {}

    @property
    def _logger(self) -> Any:
        return get_logger(service="reaper", part="confirmations")
