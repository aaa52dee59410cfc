"""Decisions on instances that complete lists do not show. Pure: time is an argument.

Such an instance is asked for by its id until it is confirmed as terminated. "There is none" proves
nothing alone: EC2 answers so for an instance that runs, since it is eventually consistent
(https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html). It does prove the end
once it has been the answer for longer than a terminated instance stays visible: "for approximately
one hour" (TerminateInstances), "usually less than one hour" (DescribeInstances, both in the API
reference).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from services.reaper.decisions import (
    COUNTED_INTERVALS,
    ReaperRules,
    decide_termination,
    end_of,
    is_terminated,
)
from services.reaper.model import Absences, NotFoundFor, Terminated, Watched
from shared.compute.port import Instance, NotFound
from shared.events.events import InstanceUnconfirmed

REPORT_SECONDS = 300


def decide_absences(
    rows: Sequence[Watched],
    answers: Mapping[str, Instance | NotFound],
    now: datetime,
    rules: ReaperRules,
) -> Absences:
    """Decide on *rows*, which are missing, by the cloud's *answers*; none is no answer."""
    terminated: list[Terminated] = []
    not_found: list[NotFoundFor] = []
    found: list[str] = []
    for row in rows:
        answer = answers.get(row.instance_id)
        if isinstance(answer, NotFound):
            seconds = not_found_for(row, now, rules)
            end = decide_vanished(row, answer, seconds, now, rules)
            if end is None:
                assumed_at = decide_report(row, answer, seconds, now, rules)
                not_found.append(NotFoundFor(watched=row, seconds=seconds, assumed_at=assumed_at))
            else:
                terminated.append(end)
        elif answer is not None and is_terminated(answer):
            terminated.append(decide_termination(row, answer, now))
        elif answer is not None:
            found.append(row.instance_id)
    return Absences(terminated=tuple(terminated), not_found=tuple(not_found), found=tuple(found))


def not_found_for(row: Watched, now: datetime, rules: ReaperRules) -> float:
    """Return the time that answers of "there is none" cover, with one that came *now*.

    Between two answers a few intervals count at most, since nothing was answered in between.
    """
    if row.not_found_at is None:
        return 0.0
    gap = max(0.0, (now - row.not_found_at).total_seconds())
    return row.not_found_seconds + min(gap, COUNTED_INTERVALS * rules.ask_seconds)


def decide_vanished(
    row: Watched, answer: NotFound, seconds: float, now: datetime, rules: ReaperRules
) -> Terminated | None:
    """Return the end of *row*, which was not found for *seconds*; None if that is no proof yet.

    Where the answer is certain, it needs lists without the instance too, for the time in which a
    new one may be invisible. What an instance cost whose end nobody saw is not known.
    """
    since = row.missing_since
    if since is None:
        return None
    listed = timedelta(seconds=rules.visibility_seconds + row.unlisted_seconds)
    if answer.final and now - since >= listed:
        return _vanished(row, since)
    if seconds >= rules.not_found_seconds:
        return replace(_vanished(row, since), cost_usd=None, cost_lines=None)
    return None


def decide_report(
    row: Watched, answer: NotFound, seconds: float, now: datetime, rules: ReaperRules
) -> datetime | None:
    """Return when *row* is taken for terminated if it stays unknown; None: nothing to publish now.

    Published with the first answer and every few minutes, since its job's next attempt may be held
    only later.
    """
    if answer.final or row.job_id is None or row.attempt is None:
        return None
    before = row.not_found_seconds // REPORT_SECONDS
    if row.not_found_at is not None and seconds // REPORT_SECONDS == before:
        return None
    return now + timedelta(seconds=rules.not_found_seconds - seconds)


def unconfirmed_event(not_found: NotFoundFor) -> InstanceUnconfirmed | None:
    """Make the event of an instance that is not found; None if there is nothing to publish."""
    row = not_found.watched
    if not_found.assumed_at is None or row.missing_since is None:
        return None
    if row.job_id is None or row.attempt is None:
        return None
    return InstanceUnconfirmed(
        instance_id=row.instance_id,
        job_id=row.job_id,
        attempt=row.attempt,
        missing_since=row.missing_since,
        assumed_at=not_found.assumed_at,
    )


def _vanished(row: Watched, since: datetime) -> Terminated:
    return end_of(
        row,
        row.end_cause or "vanished",
        since,
        hourly_price_usd=row.hourly_price_usd,
        other_prices=row.other_prices,
        minimum_billed_seconds=0,
        spot_interrupted=False,
    )
