"""What the launcher decides. Pure: time and jitter come in as arguments.

What goes into one call is decided in `offers.py`; this file has what follows an answer.
"""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.launcher.model import TRANSITIONS, Launch, Reason, State, Verdict
from services.launcher.offers import spot_ends_at
from shared.backoff import Backoff
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    NoCapacity,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchesReported, LaunchRefused

ERROR_LENGTH = 2000
"""Characters that are kept of a cloud's error message."""

REASONS: dict[type[ComputeError], Reason] = {
    NoCapacity: "no_capacity",
    QuotaReached: "quota_reached",
    Throttled: "throttled",
    # No word of its own: a reader of the events, or a launcher of the release before, knows these.
    Deferred: "unknown_outcome",
    Stale: "unknown_outcome",
    Unknown: "unknown_outcome",
}

WORDS: dict[Reason, str] = {
    "no_capacity": "the cloud has no capacity for this now",
    "quota_reached": "the account's quota is used up",
    "throttled": "the cloud wants fewer calls",
    "unknown_outcome": "the cloud has not answered; asking again",
}
"""What is told where the error itself says nothing."""


class Pace(Struct, frozen=True, kw_only=True):
    """The settings for what comes after an answer that is no instance."""

    refused: Backoff
    unknown: Backoff
    tell_again_seconds: float
    spot_wait_seconds: float


def decide_launched(launch: Launch, instance: Instance, told: int, now: datetime) -> Verdict:
    """The cloud has shown the instance: tell of it, wanted or not, alive or not.

    The reaper ends what nobody wants, and confirms the end of what is terminated already; but it
    must have heard of it, since each telling counts.
    """
    if launch.params is None:
        raise ValueError(f"job {launch.job_id}, attempt {launch.attempt} was launched, never asked")
    settled = replace(
        _become(launch, "launched"),
        instance_id=instance.instance_id,
        launched_at=instance.launched_at,
        told=told,
        due_at=None,
        settled_at=now,
    )
    lifetime = timedelta(seconds=launch.params.max_lifetime_seconds)
    event = InstanceLaunched(
        job_id=launch.job_id,
        attempt=launch.attempt,
        launch_token=instance.launch_token,
        instance_id=instance.instance_id,
        instance_type=instance.instance_type,
        zone=instance.zone,
        market=instance.market,
        hourly_price_usd=instance.hourly_price_usd,
        launched_at=instance.launched_at,
        dies_by=instance.launched_at + lifetime,
        launch_sequence=told,
        spot_instance_request_id=instance.spot_instance_request_id,
        on_demand_hourly_price_usd=instance.on_demand_hourly_price_usd,
    )
    return Verdict(launch=settled, events=(event,))


def decide_refusal(
    launch: Launch,
    error: ComputeError,
    now: datetime,
    jitter: float,
    pace: Pace,
    *,
    repeated: bool = False,
) -> Verdict:
    """The cloud has shown no instance: what comes next is what the error names.

    *repeated*: an earlier call of the launch's batch may have had an effect. A launch that is still
    `wanted` got its error while it was planned, which nothing can have come of.
    """
    definite = _is_definite(error, repeated=repeated) or launch.state == "wanted"
    last_error = str(error)[:ERROR_LENGTH]
    if definite and launch.unwanted:
        cancelled = _become(launch, "cancelled")
        return Verdict(
            launch=replace(cancelled, due_at=None, settled_at=now, last_error=last_error)
        )
    if isinstance(error, Rejected):
        message = last_error or "the cloud will not launch this"
        return _refuse(launch, message, "rejected", now)
    if definite and _has_waited_out(launch, now):
        message = last_error or WORDS["no_capacity"]
        return _refuse(launch, message, "no_capacity", now)
    waiting = _postpone(launch, error, now, jitter, pace)
    if definite:
        # Whatever comes next is a new offer: its call may gather other launches, by another plan.
        waiting = replace(
            waiting if launch.state == "wanted" else _become(waiting, "wanted"),
            offer=launch.offer + 1,
            launch_token=None,
            params=None,
            asked_at=None,
        )
    return _tell_delay(waiting, launch, now, pace)


def decide_watermark(
    told: int, oldest_asked_at: datetime | None, now: datetime, margin_seconds: float
) -> LaunchesReported:
    """Each launch asked for before *before* has been told.

    *told* and *oldest_asked_at* must be of one moment: the counter's row locked, then the rows
    read. A call that is being recorded then either has its numbers and is in *told*, or its batch
    is still seen as open and holds the watermark back.

    The margin pays for two things that no lock can order. A claim that has read the clock and has
    not committed yet is not seen; its call comes after its commit, and a transaction is over within
    30 s (`statement_seconds`). And the reaper compares the watermark with the cloud's own launch
    time, whose clock is not ours.
    """
    before = min(oldest_asked_at or now, now) - timedelta(seconds=margin_seconds)
    return LaunchesReported(before=before, launch_sequence=told)


def _is_definite(error: ComputeError, *, repeated: bool) -> bool:
    """Whether nothing was launched.

    Throttling comes before the cloud looks at the token: of an earlier call it says nothing.
    """
    if isinstance(error, Throttled):
        return not repeated
    return isinstance(error, (NoCapacity, QuotaReached, Deferred, Stale, Rejected))


def _has_waited_out(launch: Launch, now: datetime) -> bool:
    """Whether a job that wants Spot alone, and says for how long, has waited so long."""
    wait = launch.requirements.spot_wait_seconds
    if launch.requirements.capacity != "spot" or wait is None:
        return False
    return now >= launch.wanted_at + timedelta(seconds=wait)


def _refuse(launch: Launch, message: str, reason: str, now: datetime) -> Verdict:
    refused = _become(launch, "refused")
    event = LaunchRefused(
        job_id=launch.job_id,
        attempt=launch.attempt,
        message=message,
        reason="no_capacity" if reason == "no_capacity" else "rejected",
    )
    return Verdict(
        launch=replace(refused, due_at=None, settled_at=now, last_error=message), events=(event,)
    )


def _postpone(
    launch: Launch, error: ComputeError, now: datetime, jitter: float, pace: Pace
) -> Launch:
    reason = REASONS.get(type(error), "unknown_outcome")
    tries = launch.tries + 1 if reason == launch.reason else 1
    backoff = pace.unknown if isinstance(error, (Unknown, Stale)) else pace.refused
    due_at = now + timedelta(seconds=backoff.delay(tries, jitter))
    spot_ends = spot_ends_at(launch, pace.spot_wait_seconds)
    if spot_ends is not None and now < spot_ends < due_at:
        due_at = spot_ends  # the moment from which something else may be asked for
    return replace(
        launch, reason=reason, tries=tries, due_at=due_at, last_error=str(error)[:ERROR_LENGTH]
    )


def _tell_delay(waiting: Launch, before: Launch, now: datetime, pace: Pace) -> Verdict:
    """Tell why it waits, at each change of the reason and else once in a while."""
    if waiting.unwanted or waiting.reason is None or waiting.due_at is None:
        return Verdict(launch=waiting)
    told_at = before.delay_told_at
    lately = told_at is not None and now - told_at < timedelta(seconds=pace.tell_again_seconds)
    if waiting.reason == before.reason and lately:
        return Verdict(launch=waiting)
    event = LaunchDelayed(
        job_id=waiting.job_id,
        attempt=waiting.attempt,
        reason=waiting.reason,
        message=waiting.last_error or WORDS[waiting.reason],
        next_try_at=waiting.due_at,
    )
    return Verdict(launch=replace(waiting, delay_told_at=now), events=(event,))


def _become(launch: Launch, state: State) -> Launch:
    if state not in TRANSITIONS[launch.state]:
        raise ValueError(f"a launch that is {launch.state} cannot become {state}")
    return replace(launch, state=state)
