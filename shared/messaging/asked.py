"""The redrive and the drop of dead letters that somebody asked for over the API: one handler each.

The same two handlers in every service. Asking twice is harmless, and so is asking for a letter that
has gone. The next report shows what became of it (`dead_letter_report`).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.events import events
from shared.events.cloudevents import Envelope
from shared.log import get_logger
from shared.messaging.dead_letters import LetterFilter, drop_parked, redrive_parked
from shared.messaging.parked import REPORT, RETRY
from shared.messaging.subscriber import Follows, Subscriber
from shared.postgres.pool import Transaction


def asked_of(service: str) -> dict[type[events.Event], Subscriber]:
    """Return the subscribers of *service* for what is asked of its letters."""
    on = AskedHandlers(service)
    return {
        events.DeadLetterRedriveAsked: Subscriber(
            on.on_dead_letter_redrive_asked, wakes=(RETRY, REPORT)
        ),
        events.DeadLetterDropAsked: Subscriber(on.on_dead_letter_drop_asked, wakes=(REPORT,)),
    }


@dataclass(frozen=True)
class AskedHandlers:
    """One method an event; those for other services are ignored."""

    service: str

    async def on_dead_letter_redrive_asked(
        self, asked: Sequence[Envelope[Any]], tx: Transaction
    ) -> Follows:
        return await self._settle(asked, tx, redrive_parked, "dead letters redriven")

    async def on_dead_letter_drop_asked(
        self, asked: Sequence[Envelope[Any]], tx: Transaction
    ) -> Follows:
        return await self._settle(asked, tx, drop_parked, "dead letters dropped")

    async def _settle(
        self,
        asked: Sequence[Envelope[Any]],
        tx: Transaction,
        settle: Callable[[Transaction, LetterFilter], Awaitable[list[str]]],
        done: str,
    ) -> Follows:
        ours = {
            str(each.body.event_id): each.body.asked_by
            for each in asked
            if each.body.service == self.service
        }
        if ours and (ids := await settle(tx, LetterFilter(event_ids=tuple(ours)))):
            log = get_logger(service=self.service, part="dead letters")
            log.warning(done, event_ids=ids, asked_by=sorted({ours[each] or "" for each in ids}))
        return ()
