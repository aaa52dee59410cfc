"""The times in which agents could be answered: only these count as silence. Pure.

    answered ─▶│◀─ outage: agents could not be answered ─▶│◀─ agents back off ─▶│ answered

The API records every few seconds that agents can be answered (`availability_sweeps.py`; whether
they can is decided in `answering.py`). A gap between two records is an outage, whatever its cause:
a restart, a frozen database, a suspended laptop. The records are rows, so replicas agree, and one
replica that answers is enough.

A window is the time since an attempt's last sign of life. An outage in it counts in full; the time
in which agents back off after outages counts up to `MOST_SETTLING` in all, so that an API that
fails again and again still finds the attempts that are lost.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from services.api.jobs.model import Attempt, JobRules

AGENT_BACKOFF = timedelta(seconds=10)
"""The longest wait of an agent between two tries: the agent's `BACKOFF_CAP_SECONDS`."""

MOST_SETTLING = timedelta(seconds=60)
"""The most time of one window in which nothing is decided because agents may still back off."""

CLOCK_JUMP = timedelta(seconds=60)
"""A record this far in the future was made by a clock that has been set back since."""


class Outage(Struct, frozen=True):
    """A time in which agents could not be answered."""

    began_at: datetime
    ended_at: datetime

    @property
    def settled_at(self) -> datetime:
        """The time by which each agent has tried again.

        An agent's backoff doubles from 0.1 s, so it waits at most twice as long as it has failed
        for, and never longer than its longest backoff.
        """
        return self.ended_at + min(AGENT_BACKOFF, 2 * (self.ended_at - self.began_at))


class Uncounted(Struct, frozen=True):
    """A time that does not count: an outage, and the agents' backoff after it."""

    began_at: datetime
    ended_at: datetime


def record_seconds(rules: JobRules) -> float:
    """Return the interval in seconds at which the API records that it answers."""
    return min(2.0, max(0.2, min(rules.silence_seconds, rules.boot_seconds) / 30))


def decide_outage(answered_until: datetime | None, now: datetime, rules: JobRules) -> Outage | None:
    """Return the outage between the last record and *now*, if more than one record is missing."""
    if answered_until is None:
        return None
    if now - answered_until <= timedelta(seconds=2 * record_seconds(rules)):
        return None
    return Outage(answered_until, now)


def decide_answered_until(answered_until: datetime | None, now: datetime) -> datetime:
    """Return the next record: the latest of all replicas' clocks, except one that was far ahead."""
    if answered_until is None or answered_until - now > CLOCK_JUMP:
        return now
    return max(answered_until, now)


def uncounted_times(outages: Sequence[Outage]) -> list[Uncounted]:
    """Return what does not count of a window with these *outages*, in order."""
    merged = _merge(outages)
    ends = [each.began_at for each in merged[1:]]
    uncounted, settled_at, left = [], None, MOST_SETTLING
    for outage, next_began_at in zip(merged, [*ends, None], strict=False):
        settled_at = max(settled_at or outage.settled_at, outage.settled_at)
        until = settled_at if next_began_at is None else min(settled_at, next_began_at)
        settling = min(left, max(timedelta(), until - outage.ended_at))
        left -= settling
        uncounted.append(Uncounted(outage.began_at, outage.ended_at + settling))
    return uncounted


def _merge(outages: Sequence[Outage]) -> list[Outage]:
    """Join the outages that overlap; return them in order."""
    merged: list[Outage] = []
    for each in sorted(outages, key=lambda each: each.began_at):
        if merged and each.began_at <= merged[-1].ended_at:
            ended_at = max(merged[-1].ended_at, each.ended_at)
            merged[-1] = Outage(merged[-1].began_at, ended_at)
        else:
            merged.append(each)
    return merged


def unsettled_until(now: datetime, outages: Sequence[Outage]) -> datetime | None:
    """Return the time by which each agent has tried again; None if no outage is that recent."""
    unsettled = (
        each.ended_at for each in uncounted_times(outages) if each.began_at <= now < each.ended_at
    )
    return next(unsettled, None)


def answered_time(since: datetime, now: datetime, outages: Sequence[Outage]) -> timedelta:
    """Return the part of the time from *since* to *now* in which agents could be answered.

    *outages*: those that ended after *since*.
    """
    answered, start = timedelta(), since
    for each in uncounted_times([each for each in outages if each.ended_at > since]):
        answered += max(timedelta(), min(each.began_at, now) - start)
        start = max(start, each.ended_at)
    return answered + max(timedelta(), now - start)


def silent_since(attempt: Attempt) -> datetime:
    """Return the time of the last heartbeat of *attempt*, or of its launch before the first."""
    if attempt.heartbeat_at is not None:
        return attempt.heartbeat_at
    launched_at = attempt.entered["booting"]
    return max(launched_at, attempt.launch_recorded_at or launched_at)


def decide_lost_at(
    attempt: Attempt, now: datetime, rules: JobRules, outages: Sequence[Outage]
) -> datetime:
    """Return when *attempt* is lost if it stays silent and agents can be answered from *now* on."""
    allowed = rules.boot_seconds if attempt.heartbeat_at is None else rules.silence_seconds
    return now + timedelta(seconds=allowed) - answered_time(silent_since(attempt), now, outages)
