"""Events that are published again: their queue was lost, or the database is an older one.

A service keeps in its outbox for a day what it has published; what a reader has consumed is in the
reader's inbox, or parked there. Run by the admin, who sees the schemas of all services.
"""

from collections.abc import Collection

from operations.wiring import PAIRS, Pair
from shared.postgres.pool import Connection, connect

# An inbox is pruned after a day (`KEEP` in shared/messaging/relay.py), so older events are left
# out; a prune may be four hours late.
RESEND = """
UPDATE {publisher}.outbox
SET published_at = NULL, lease_until = NULL, lease_token = NULL, tries = 0
WHERE name = ANY ($1::text[])
  AND published_at > (SELECT max(published_at) FROM {publisher}.outbox) - interval '20 hours'
  AND EXISTS (
    SELECT FROM (
        SELECT (event ->> 'id')::uuid AS id FROM (
            -- What the release before wrote is one event, and no array.
            SELECT CASE json_typeof(whole) WHEN 'array' THEN whole ELSE json_build_array(whole) END
            FROM (SELECT convert_from(body, 'UTF8')::json AS whole) AS read) AS read (batch),
            json_array_elements(batch) AS event) AS published
    WHERE NOT EXISTS (SELECT FROM {reader}.inbox WHERE event_id = published.id)
      AND NOT EXISTS (SELECT FROM {reader}.parked WHERE event_id = published.id))
"""

# What no queue took is otherwise tried with a growing delay.
RETRY_NOW = """
UPDATE {publisher}.outbox SET lease_until = NULL, lease_token = NULL, tries = 0
WHERE name = ANY ($1::text[]) AND published_at IS NULL AND tries > 0
"""


async def resend(conn: Connection, pairs: Collection[Pair]) -> int:
    """Let the last day's events of *pairs* be published again, if they are not consumed.

    Returns how many messages that are.
    """
    resent = 0
    for publisher, reader, names in pairs:
        await conn.execute(RETRY_NOW.format(publisher=publisher), names)
        result = await conn.execute(RESEND.format(publisher=publisher, reader=reader), names)
        resent += int(result.removeprefix("UPDATE "))
    return resent


async def resend_to(admin_dsn: str, readers: Collection[str]) -> int:
    """Let the last day's events for *readers* be published again: their queues were lost.

    Returns how many messages that are. The inboxes drop those that are consumed meanwhile.
    """
    conn = await connect(admin_dsn, command_seconds=None)
    try:
        async with conn.transaction():
            return await resend(conn, [pair for pair in PAIRS if pair[1] in readers])
    finally:
        await conn.close(timeout=5)
