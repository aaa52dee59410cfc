"""The times in which agents could be answered. Pure: silence counts in these alone.

    answered ─▶│◀─ outage: API or database did not answer ─▶│◀─ agents back off ─▶│ answered

The API records every few seconds that it and its database answer (`sweeps.record_availability`).
A gap between two records is an outage, whatever its cause: a restart, a frozen database, a laptop
that slept. The records are rows, so replicas agree, and one replica that answers is enough.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from services.api.jobs.model import Attempt, Rules

AGENT_BACKOFF = timedelta(seconds=10)
"""The longest wait of an agent between two tries: `BACKOFF_CAP_SECONDS` of the agent."""

CLOCK_JUMP = timedelta(seconds=60)
"""A record so far in the future was made by a clock that has been set back since."""


class Outage(Struct, frozen=True):
    """A time in which agents could not be answered."""

    began_at: datetime
    ended_at: datetime

    @property
    def settled_at(self) -> datetime:
        """When each agent has tried again.

        An agent's backoff doubles from 0.1 s, so it waits at most twice as long as it has failed
        for, and never longer than its longest backoff.
        """
        return self.ended_at + min(AGENT_BACKOFF, 2 * (self.ended_at - self.began_at))


def record_seconds(rules: Rules) -> float:
    """How often the API records that it answers, in seconds."""
    return min(2.0, max(0.2, min(rules.silence_seconds, rules.boot_seconds) / 30))


def decide_outage(answered_until: datetime | None, now: datetime, rules: Rules) -> Outage | None:
    """The outage between the last record and *now*, if more than one record is missing."""
    if answered_until is None:
        return None
    if now - answered_until <= timedelta(seconds=2 * record_seconds(rules)):
        return None
    return Outage(answered_until, now)


def decide_answered_until(answered_until: datetime | None, now: datetime) -> datetime:
    """The next record: the latest of all replicas' clocks, save one that was far ahead."""
    if answered_until is None or answered_until - now > CLOCK_JUMP:
        return now
    return max(answered_until, now)


def unsettled_until(now: datetime, outages: Sequence[Outage]) -> datetime | None:
    """When each agent has had its chance again, or None where *now* is in no outage's wake."""
    unsettled = [each.settled_at for each in outages if each.began_at <= now < each.settled_at]
    return max(unsettled, default=None)


def answered_time(since: datetime, now: datetime, outages: Sequence[Outage]) -> timedelta:
    """How much of the time from *since* to *now* agents could be answered in."""
    answered, start = timedelta(), since
    for outage in sorted(outages, key=lambda each: each.began_at):
        if outage.ended_at <= since:
            continue
        answered += max(timedelta(), min(outage.began_at, now) - start)
        start = max(start, outage.settled_at)
    return answered + max(timedelta(), now - start)


def silent_since(attempt: Attempt) -> datetime:
    """The last sign of life of *attempt*, which is watched: a report, or the launch."""
    if attempt.heartbeat_at is not None:
        return attempt.heartbeat_at
    launched_at = attempt.entered["booting"]
    return max(launched_at, attempt.launch_recorded_at or launched_at)


def decide_lost_at(
    attempt: Attempt, now: datetime, rules: Rules, outages: Sequence[Outage]
) -> datetime:
    """When *attempt* is lost if it stays silent and agents can be answered from *now* on."""
    allowed = rules.boot_seconds if attempt.heartbeat_at is None else rules.silence_seconds
    return now + timedelta(seconds=allowed) - answered_time(silent_since(attempt), now, outages)
