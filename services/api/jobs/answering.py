"""Decisions whether agents can be answered now. Pure.

A record (`availability_sweeps.py`) shows that the database answers. That is not enough: no record
is made while one of these is in doubt, so the time becomes a gap, which does not count as silence.

- Calls of agents fail for a fault of ours (5xx: STS does not answer, a key is missing, a bug).
- No agent at all is received, though there are several: a load balancer, a firewall or a network
  is down, and not all agents at once. With a single agent this looks the same as its death.

Each doubt ends after `LONGEST_DOUBT`: then silence counts, although it may be our own fault.
"""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from services.api.jobs.availability import (
    AGENT_BACKOFF,
    Outage,
    decide_answered_until,
    decide_outage,
)
from services.api.jobs.model import Attempt, JobRules

LONGEST_DOUBT = timedelta(minutes=10)
"""The longest time that a doubt counts as an outage, from the first failure or last heartbeat."""

FAILURE_LASTS = AGENT_BACKOFF + timedelta(seconds=10)
"""A failed agent calls again within its longest backoff and the time limit of a call. Failures are
over if none came for this long."""

MANY = 2
"""Attempts that are silent together only if it is our side that receives nothing."""

Doubt = Literal["calls of agents fail", "no agent is received"]


class Calls(Struct, frozen=True):
    """The calls of agents that a process answered, or failed for a fault of ours."""

    answered: int = 0
    failed: int = 0


class Received(Struct, frozen=True):
    """The calls of agents since the last record of a process."""

    reports: Calls = Calls()
    claims: Calls = Calls()


class Liveness(Struct, frozen=True):
    """The live attempts that have reported before, and the latest heartbeat of any of them."""

    attempts: int = 0
    received_at: datetime | None = None


class Availability(Struct, frozen=True, kw_only=True):
    """The row of `availability`: what all replicas know of whether agents are answered."""

    answered_until: datetime | None = None
    claims_answered_until: datetime | None = None
    reports_failing_since: datetime | None = None
    reports_failing_until: datetime | None = None
    claims_failing_since: datetime | None = None
    claims_failing_until: datetime | None = None

    def answers(self, attempt: Attempt) -> datetime | None:
        """Return until when the calls of *attempt*'s agent are known to have been answered."""
        if attempt.token_hash is not None:
            return self.answered_until
        return self.claims_answered_until or self.answered_until


class Record(Struct, frozen=True, kw_only=True):
    """The row after a record, the gaps that it closes, and the doubt for which none is made."""

    after: Availability
    outage: Outage | None = None
    claims_outage: Outage | None = None
    doubt: Doubt | None = None


class Failing(Struct, frozen=True):
    """The time in which calls fail for a fault of ours."""

    since: datetime
    until: datetime


def unreceived_seconds(rules: JobRules) -> float:
    """Return how long no agent may be received before that is taken for a fault of ours.

    Three heartbeats and some seconds, and less than the silence for which an attempt is lost.
    """
    return min(3 * rules.heartbeat_seconds + 5, 0.75 * rules.silence_seconds)


def is_deaf(live: Liveness, now: datetime, rules: JobRules) -> bool:
    """Return whether it is our side that receives no agent."""
    seconds = unreceived_seconds(rules)
    # Settings by which an agent may be silent for less than two heartbeats tell nothing.
    if live.attempts < MANY or live.received_at is None or seconds < 2 * rules.heartbeat_seconds:
        return False
    return timedelta(seconds=seconds) < now - live.received_at <= LONGEST_DOUBT


def decide_failing(
    before: Failing | None, calls: Calls, now: datetime, *, answer_ends_it: bool
) -> Failing | None:
    """Return whether calls fail now, by those of one process and by what the row has of the others.

    *answer_ends_it*: a call that was answered shows that the failures are over.
    """
    if answer_ends_it and calls.answered:
        return None
    recent = before if before is not None and now - before.until <= FAILURE_LASTS else None
    if calls.failed:
        return Failing(now if recent is None else recent.since, now)
    return recent


def decide_record(
    before: Availability, received: Received, live: Liveness, now: datetime, rules: JobRules
) -> Record:
    """Decide whether agents can be answered now, and which gaps end."""
    reports = decide_failing(
        _failing(before.reports_failing_since, before.reports_failing_until),
        received.reports,
        now,
        answer_ends_it=True,
    )
    # Claims differ: that of an instance whose proof is cached is answered without STS.
    claims = decide_failing(
        _failing(before.claims_failing_since, before.claims_failing_until),
        received.claims,
        now,
        answer_ends_it=False,
    )
    noted = replace(
        before,
        reports_failing_since=reports and reports.since,
        reports_failing_until=reports and reports.until,
        claims_failing_since=claims and claims.since,
        claims_failing_until=claims and claims.until,
    )
    doubt = _doubt(before, reports, live, now, rules)
    if doubt is not None:
        return Record(after=noted, doubt=doubt)
    answered_until = decide_answered_until(before.answered_until, now)
    outage = decide_outage(before.answered_until, now, rules)
    after = replace(noted, answered_until=answered_until)
    if _is_doubtful(claims, now):
        claims_until = before.claims_answered_until or before.answered_until
        return Record(after=replace(after, claims_answered_until=claims_until), outage=outage)
    claims_outage = decide_outage(before.claims_answered_until, now, rules)
    return Record(
        after=replace(after, claims_answered_until=answered_until),
        outage=outage,
        claims_outage=None if claims_outage == outage else claims_outage,
    )


def _failing(since: datetime | None, until: datetime | None) -> Failing | None:
    return None if since is None or until is None else Failing(since, until)


def _is_doubtful(failing: Failing | None, now: datetime) -> bool:
    return failing is not None and now - failing.since <= LONGEST_DOUBT


def _doubt(
    before: Availability, reports: Failing | None, live: Liveness, now: datetime, rules: JobRules
) -> Doubt | None:
    if before.answered_until is None:
        return None
    if _is_doubtful(reports, now):
        return "calls of agents fail"
    return "no agent is received" if is_deaf(live, now, rules) else None
