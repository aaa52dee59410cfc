"""Requests for an event that has had no consequence: their times, and who may make them. Pure.

    overdue ─ 2 min ─▶ asked ─ 2 min ─▶ asked ─ 4 min ─▶ asked ─ … at most hourly

Whichever hop has lost the event, asking again heals it, and the readers' rows make a repeat
harmless. A process that could not receive must not call others silent: its patience begins anew.
"""

from datetime import datetime, timedelta

from msgspec import Struct

PATIENCE = timedelta(minutes=2)
"""How long nothing must have come, while it could have, before it is asked for again."""

LONGEST = timedelta(hours=1)
"""The longest time between two requests for the same."""

LONGEST_PASS = timedelta(seconds=60)
"""Passes further apart have an outage between them: of the process or of its database."""


def next_ask(overdue_since: datetime, now: datetime) -> datetime:
    """Return when to ask again after asking *now*: when the time overdue has doubled."""
    return now + min(max(now - overdue_since, PATIENCE), LONGEST)


class Listening(Struct, frozen=True):
    """Since when a process has been receiving (None: it is not), as of its pass at *seen_at*."""

    since: datetime | None = None
    seen_at: datetime | None = None

    def patient_since(self, overdue_since: datetime, now: datetime) -> bool:
        """Return whether it has been receiving for long enough since *overdue_since*."""
        return self.since is not None and now - max(self.since, overdue_since) >= PATIENCE


def decide_listening(before: Listening, now: datetime, *, receiving: bool) -> Listening:
    """Return the state at a pass; *receiving*: the broker and our own outbox flow now."""
    if not receiving:
        return Listening(None, now)
    interrupted = (
        before.since is None
        or before.seen_at is None
        # Also if the clock was set back.
        or not before.seen_at <= now <= before.seen_at + LONGEST_PASS
    )
    return Listening(now if interrupted else before.since, now)
