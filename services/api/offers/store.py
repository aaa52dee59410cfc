"""SQL over the published offers, and over how jobs of late have started."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.api.offers.model import KnownOffers, RecentStart
from shared.events.cloudevents import Envelope
from shared.events.events import OffersPriced
from shared.postgres.pool import Connection, Transaction

SAVE_OFFERS = """
INSERT INTO offers (version, part, parts, priced_at, body)
SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::timestamptz[], $5::bytea[])
ON CONFLICT DO NOTHING
"""

_NEWEST = """
SELECT version, priced_at FROM offers GROUP BY version, priced_at HAVING count(*) = max(parts)
ORDER BY priced_at DESC, version DESC LIMIT 1
"""
PRUNE_OFFERS = f"""
WITH newest AS ({_NEWEST})
DELETE FROM offers USING newest
WHERE (offers.priced_at, offers.version) < (newest.priced_at, newest.version)
"""  # noqa: S608 - our own text
LOAD_OFFERS = f"""
WITH newest AS ({_NEWEST})
SELECT body FROM offers WHERE version = (SELECT version FROM newest) ORDER BY part
"""  # noqa: S608 - our own text

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(OffersPriced)


async def save_offers(tx: Transaction, events: Sequence[Envelope[OffersPriced]]) -> None:
    """Save these parts, and delete what is older than the newest version that is complete."""
    parts = [each.body for each in events]
    await tx.conn.execute(
        SAVE_OFFERS,
        [each.version for each in parts],
        [each.part for each in parts],
        [each.parts for each in parts],
        [each.priced_at for each in parts],
        [_encode(each) for each in parts],
    )
    await tx.conn.execute(PRUNE_OFFERS)


async def load_offers(conn: Connection) -> KnownOffers | None:
    """Load the newest version of which all parts have come; None if there is none."""
    parts = [_decoder.decode(row["body"]) for row in await conn.fetch(LOAD_OFFERS)]
    if not parts:
        return None
    types = tuple(kind for part in parts for kind in part.types)
    return KnownOffers(priced_at=parts[0].priced_at, terms=parts[0].terms, types=types)


RECENT = 100
"""Finished jobs that the usual time of a start is computed from."""

# The comparison with a row leaves only the index on status and id: see `listing.py`. The attempts
# are looked up job by job, which OFFSET 0 keeps so.
LOAD_STARTS = """
SELECT a.due_at, a.entered
FROM (SELECT id FROM jobs WHERE (status, id) <= ('DONE', 9223372036854775807) AND status >= 'DONE'
      ORDER BY status DESC, id DESC LIMIT $1) j
CROSS JOIN LATERAL (
    SELECT due_at, entered FROM attempts WHERE job_id = j.id AND number = 1 OFFSET 0) a
"""


async def load_starts(conn: Connection) -> list[RecentStart]:
    """Load how the first attempts of the newest jobs that are DONE have started."""
    rows = await conn.fetch(LOAD_STARTS, RECENT)
    return [start for row in rows if (start := _start(row)) is not None]


def _start(row: Any) -> RecentStart | None:
    entered = msgspec.convert(row["entered"], dict[str, datetime])
    running, booting = entered.get("running"), entered.get("booting")
    if running is None:
        return None
    due_at = max(row["due_at"], entered.get("scheduled", row["due_at"]))
    return RecentStart(
        wait_seconds=max(0.0, (running - due_at).total_seconds()),
        boot_seconds=None if booting is None else max(0.0, (running - booting).total_seconds()),
    )
