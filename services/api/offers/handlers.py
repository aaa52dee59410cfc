"""The handler of published offers: keep a copy."""

from collections.abc import Sequence

from services.api.offers.store import save_offers
from shared.events.cloudevents import Envelope
from shared.events.events import OffersPriced
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_offers_priced(priced: Sequence[Envelope[OffersPriced]], tx: Transaction) -> Follows:
    """Save the parts. Late and repeated ones change nothing."""
    await save_offers(tx, priced)
    return ()
