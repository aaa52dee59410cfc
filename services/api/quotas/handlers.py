"""The handler of the launcher's reports."""

from collections.abc import Sequence
from typing import Any

from services.api.quotas.store import save_quotas
from shared.events.cloudevents import Envelope
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_quotas_reported(events: Sequence[Envelope[Any]], tx: Transaction) -> Follows:
    """Keep the last report."""
    await save_quotas(tx, max((each.body for each in events), key=lambda each: each.sequence))
    return ()
