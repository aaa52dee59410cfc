"""The handler of the services' reports."""

from collections.abc import Sequence
from typing import Any

from services.api.dead_letters.store import save_letters
from shared.events.cloudevents import Envelope
from shared.messaging.dead_letter_report import REPORT_NAME
from shared.messaging.dead_letters import LetterFilter, drop_parked
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_dead_letters_reported(events: Sequence[Envelope[Any]], tx: Transaction) -> Follows:
    """Keep the last report of each service.

    Reports that are dead themselves are deleted: each has been replaced by now, or will be within
    an hour. An upgrade leaves some, if the API of the release before has received them.
    """
    last: dict[str, Any] = {}
    for report in sorted((each.body for each in events), key=lambda each: each.sequence):
        last[report.service] = report
    for service in sorted(last):  # in one order: two transactions must not wait for each other
        await save_letters(tx, last[service])
    await drop_parked(tx, LetterFilter(states=("dead",), name=REPORT_NAME))
    return ()
