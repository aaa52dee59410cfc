"""The launcher's decisions after an answer of the cloud. Pure: time and jitter are arguments.

`offers.py` decides what goes into a call.
"""

from datetime import datetime, timedelta

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from services.launcher.model import TRANSITIONS, Launch, Reason, State, Verdict
from services.launcher.offers import spot_ends_at
from shared.backoff import Backoff
from shared.compute.choice import NotSold
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    Misconfigured,
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
    NotSold: "no_capacity",
    QuotaReached: "quota_reached",
    Throttled: "throttled",
    # No reason of its own: readers of the events, and launchers of the last release, know these.
    Deferred: "unknown_outcome",
    Misconfigured: "unknown_outcome",
    Stale: "unknown_outcome",
    Unknown: "unknown_outcome",
}

NO_INSTANCE = (NoCapacity, QuotaReached, Deferred)
"""Answers that there is no instance now. Only these end a job's wait for Spot: a launcher that was
down, a cloud that throttles or does not answer, and a fault of the deployment's settings prove
nothing about capacity. Neither does one of these that names what an operator can change.
"""

MESSAGES: dict[Reason, str] = {
    "no_capacity": "the cloud has no capacity for this now",
    "quota_reached": "the account's quota is used up",
    "throttled": "the cloud throttles our calls",
    "unknown_outcome": "the cloud has not answered; repeating the call",
}
"""The published message if the error itself has none."""


class Pace(Struct, frozen=True, kw_only=True):
    """The settings for what follows an answer that is no instance."""

    refused: Backoff
    unknown: Backoff
    repeat_delay_seconds: float
    spot_wait_seconds: float


def decide_launched(
    launch: Launch, instance: Instance, launch_sequence: int, now: datetime
) -> Verdict:
    """Publish the instance that the cloud has shown, wanted or not, alive or not.

    The reaper ends an unwanted instance and confirms the end of a terminated one, but it must know
    of each: the watermark counts them all.
    """
    if launch.params is None:
        raise ValueError(f"job {launch.job_id}, attempt {launch.attempt} was never asked for")
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
        launch_sequence=launch_sequence,
        spot_instance_request_id=instance.spot_instance_request_id,
        on_demand_hourly_price_usd=instance.on_demand_hourly_price_usd,
        other_prices=instance.other_prices,
    )
    settled = replace(
        _become(launch, "launched"),
        instance_id=instance.instance_id,
        launched_at=instance.launched_at,
        launch_sequence=launch_sequence,
        due_at=None,
        settled_at=now,
        report=to_builtins(event),
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
    """Decide what follows an answer without an instance; each error names it.

    *repeated*: an earlier call of the launch's batch may have had an effect. A launch that is still
    `wanted` got its error while it was planned, which has no effect.
    """
    definite = _is_definite(error, repeated=repeated) or launch.state == "wanted"
    last_error = str(error)[:ERROR_LENGTH]
    if definite and launch.unwanted:
        cancelled = _become(launch, "cancelled")
        return Verdict(
            launch=replace(cancelled, due_at=None, settled_at=now, last_error=last_error)
        )
    if isinstance(error, Rejected) and not _goes_on_demand(launch, error):
        message = last_error or "the cloud rejects this launch"
        return _refuse(launch, message, "rejected", now)
    is_short = isinstance(error, NO_INSTANCE) and (error.in_part or not error.change)
    if is_short and _has_waited_out(launch, now):
        message = last_error or MESSAGES["no_capacity"]
        return _refuse(launch, message, "no_capacity", now)
    waiting = _postpone(launch, error, now, jitter, pace)
    if definite:
        # A new offer comes next: its call may gather other launches, under another plan.
        waiting = replace(
            waiting if launch.state == "wanted" else _become(waiting, "wanted"),
            offer=launch.offer + 1,
            launch_token=None,
            params=None,
            asked_at=None,
        )
    return _publish_delay(waiting, launch, now, pace)


def decide_watermark(
    launch_sequence: int, oldest_asked_at: datetime | None, now: datetime, margin_seconds: float
) -> LaunchesReported:
    """Return the watermark: each launch asked for before its *before* is published.

    *launch_sequence* and *oldest_asked_at* must be consistent: the counter's row is locked, then
    the batches are read. A call that is being recorded then either has its numbers and is counted,
    or its batch is still open and holds the watermark back.

    The margin covers two things that no lock can order. A claim that has read the clock and has not
    committed yet is not visible; its call comes after its commit, and a transaction ends within
    30 s (`statement_seconds`). And the reaper compares the watermark with the cloud's own launch
    time, whose clock is not ours.
    """
    before = min(oldest_asked_at or now, now) - timedelta(seconds=margin_seconds)
    return LaunchesReported(before=before, launch_sequence=launch_sequence)


def _is_definite(error: ComputeError, *, repeated: bool) -> bool:
    """Return whether nothing was launched.

    A throttled call is refused before its token is read: it proves nothing about an earlier call.
    Of other answers to a repeated call, the adapter raises `Unknown` where the earlier one may be
    under way.
    """
    if isinstance(error, Throttled):
        return not repeated
    return isinstance(error, (NoCapacity, QuotaReached, Deferred, Misconfigured, Stale, Rejected))


def _goes_on_demand(launch: Launch, error: ComputeError) -> bool:
    """Return whether the launch waits for its turn on demand: Spot has no such type."""
    of_spot = isinstance(error, NotSold) and error.market == "spot"
    return of_spot and launch.requirements.capacity == "spot_then_on_demand"


def _has_waited_out(launch: Launch, now: datetime) -> bool:
    """Return whether a job for Spot only has waited as long as it said it would."""
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
    settled = replace(
        refused, due_at=None, settled_at=now, last_error=message, report=to_builtins(event)
    )
    return Verdict(launch=settled, events=(event,))


def _postpone(
    launch: Launch, error: ComputeError, now: datetime, jitter: float, pace: Pace
) -> Launch:
    reason = REASONS.get(type(error), "unknown_outcome")
    tries = launch.tries + 1 if reason == launch.reason else 1
    backoff = pace.unknown if isinstance(error, (Unknown, Stale)) else pace.refused
    due_at = now + timedelta(seconds=backoff.delay(tries, jitter))
    spot_ends = spot_ends_at(launch, pace.spot_wait_seconds)
    if spot_ends is not None and now < spot_ends < due_at:
        due_at = spot_ends  # from then on it may be asked for on demand
    return replace(
        launch,
        reason=reason,
        tries=tries,
        due_at=due_at,
        last_error=str(error)[:ERROR_LENGTH],
        to_change=error.change or None,
    )


def _publish_delay(waiting: Launch, before: Launch, now: datetime, pace: Pace) -> Verdict:
    """Publish why it waits, at each change of the reason and otherwise now and then.

    The reason is also what an operator can change.
    """
    if waiting.unwanted or waiting.reason is None or waiting.due_at is None:
        return Verdict(launch=waiting)
    published_at = before.delay_told_at
    repeat = timedelta(seconds=pace.repeat_delay_seconds)
    recently = published_at is not None and now - published_at < repeat
    same = waiting.reason == before.reason and waiting.to_change == before.to_change
    if same and recently:
        return Verdict(launch=waiting)
    event = LaunchDelayed(
        job_id=waiting.job_id,
        attempt=waiting.attempt,
        reason=waiting.reason,
        message=waiting.last_error or MESSAGES[waiting.reason],
        next_try_at=waiting.due_at,
        to_change=waiting.to_change,
        delayed_at=now,
    )
    return Verdict(launch=replace(waiting, delay_told_at=now), events=(event,))


def _become(launch: Launch, state: State) -> Launch:
    if state not in TRANSITIONS[launch.state]:
        raise ValueError(f"a launch that is {launch.state} cannot become {state}")
    return replace(launch, state=state)
