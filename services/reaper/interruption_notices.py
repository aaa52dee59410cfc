"""The reaper's second channel: the cloud's own notices, also of instances whose agent is silent.

    receive ─▶ record, publish ─▶ delete

Killed before the record is committed: the messages come again. Killed after it: they come again
too, and each kind is recorded and published once for an instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.reaper import decisions
from services.reaper.cloud_calls import CloudCalls
from services.reaper.store import notices
from shared.compute.port import ComputeError, Misconfigured, Notice, Notices
from shared.events import cloudevents
from shared.log import get_logger
from shared.messaging.store import append_outbox
from shared.runtime.service import Ports


@dataclass(frozen=True)
class Channel:
    """The sweep over the channel."""

    ports: Ports
    source: Notices
    calls: CloudCalls

    async def receive_notices(self) -> datetime | None:
        """Receive and record notices; due again at once, since receiving waits by itself."""
        try:
            received = await self.calls.answer("receive", self.source.receive())
        except ComputeError as error:
            self._warn("cannot receive notices", error)
            return None
        self.ports.points.reached("reaper.noticed")
        published = await self._record(received)
        self.ports.points.reached("reaper.notices_recorded")
        wakes = {"relay_outbox"} if published else set()
        if any(each.kind == "state" for each in received):
            wakes.add("watch_instances")  # the list counts, not the notice
        self.ports.wakeups.wake(*wakes)
        try:
            await self.calls.answer("acknowledge", self.source.done(received))
        except ComputeError as error:  # they come again, and change nothing
            self._warn("cannot delete notices", error)
        return self.ports.clock.now()

    def _warn(self, event: str, error: ComputeError) -> None:
        if not isinstance(error, Misconfigured):  # `calls` reports it
            self._logger.warning(event, error=str(error))

    async def _record(self, received: Sequence[Notice]) -> bool:
        async with self.ports.db.transaction() as tx:
            new = [each for each in received if each.kind in ("interruption", "rebalance")]
            if new:
                await notices.add_notices(tx, new)
            interruptions = await notices.claim_unpublished(tx)
            envelopes = [
                cloudevents.wrap(
                    decisions.interruption_event(each),
                    source=tx.source,
                    at=tx.now,
                    trace=each.trace,
                )
                for each in interruptions
            ]
            await append_outbox(tx, envelopes)
        return bool(envelopes)

    @property
    def _logger(self) -> Any:
        return get_logger(service="reaper", part="notices")
