"""What the reaper decides. Pure: time and jitter come in as arguments."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from services.reaper.model import (
    Findings,
    Interruption,
    Terminated,
    UnknownInstance,
    Watched,
    Watermark,
)
from shared.compute.port import Instance, InstanceState
from shared.events.events import InstanceInterrupted, InstanceTerminated, Market

FREE_IF_INTERRUPTED_WITHIN_SECONDS = 3600
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html"""


class ReaperRules(Struct, frozen=True, kw_only=True):
    """The settings that decisions need. Durations in seconds."""

    visibility_seconds: float
    orphan_seconds: float
    max_lifetime_seconds: float
    lifetime_margin_seconds: float


def decide_billed_seconds(
    market: Market, lived_seconds: float, minimum_seconds: int, *, spot_interrupted: bool
) -> int:
    """What of its life an instance is billed for.

    By the second, from a minimum on; one that the Spot market took back within its first hour is
    free.
    """
    seconds = max(0, math.ceil(lived_seconds))  # two clocks of a cloud may disagree
    free = spot_interrupted and market == "spot" and seconds < FREE_IF_INTERRUPTED_WITHIN_SECONDS
    return 0 if free else max(minimum_seconds, seconds)


def decide_gone(watched: Watched, instance: Instance, now: datetime) -> Terminated:
    """The end of *watched*, which the cloud shows as terminated."""
    if instance.spot_interrupted:
        cause = "interrupted"
    else:
        cause = watched.end_cause or instance.state_reason or "ended by itself"
    return _gone(
        watched,
        cause,
        instance.terminated_at or now,
        hourly_price_usd=_price_of(watched, instance),
        minimum_billed_seconds=instance.minimum_billed_seconds,
        spot_interrupted=instance.spot_interrupted,
    )


def decide_absence(watched: Watched, now: datetime, rules: ReaperRules) -> Terminated | None:
    """The end of *watched* where the cloud's complete lists have not shown it for long enough.

    The first list without it proves nothing: a cloud takes a while to show what it has just
    launched.
    """
    since = watched.missing_since
    if since is None or now - since < timedelta(seconds=rules.visibility_seconds):
        return None
    return _gone(
        watched,
        watched.end_cause or "vanished",
        since,
        hourly_price_usd=watched.hourly_price_usd,
        minimum_billed_seconds=0,
        spot_interrupted=False,
    )


def trusted_before(watermark: Watermark) -> datetime | None:
    """The moment before which each launch has been told *and* heard, or None: not known yet.

    Events come in any order, so the watermark counts only once every telling it speaks of is here.
    """
    return watermark.before if watermark.heard_through >= watermark.told else None


def decide_stranger(
    stranger: UnknownInstance, trusted: datetime | None, now: datetime, rules: ReaperRules
) -> bool:
    """Whether an instance that only the cloud's list shows is ended.

    Never at first sight. After that only where its attempt has ended, where its telling would have
    been heard by now, or where it is too old to be anybody's. What is left is a launch that is not
    heard of yet (the broker down, the launcher slow), and it waits.
    """
    if now - stranger.first_seen_at < timedelta(seconds=rules.orphan_seconds):
        return False
    launched_at = stranger.instance.launched_at
    return (
        stranger.attempt_ended
        or (trusted is not None and launched_at < trusted)
        or now >= launched_at + _longest(rules)
    )


def decide_findings(
    rows: Sequence[Watched], listed: Mapping[str, Instance], now: datetime, rules: ReaperRules
) -> Findings:
    """What a complete list says of *rows*: all that live, and those of *listed* that do not."""
    known = {row.instance_id for row in rows}
    alive = [row for row in rows if row.state != "terminated"]
    absent = [row for row in alive if row.instance_id not in listed]
    present = [row for row in alive if row.instance_id in listed]
    ended = [
        decide_gone(row, listed[row.instance_id], now)
        for row in present
        if is_gone(listed[row.instance_id])
    ]
    vanished = [gone for row in absent if (gone := decide_absence(row, now, rules))]
    margin = timedelta(seconds=rules.lifetime_margin_seconds)
    running = [
        row for row in present if row.state == "running" and not is_gone(listed[row.instance_id])
    ]
    return Findings(
        gone=(*ended, *vanished),
        missing=tuple(row.instance_id for row in absent if row.missing_since is None),
        back=tuple(row.instance_id for row in present if row.missing_since is not None),
        expired=tuple(
            row.instance_id
            for row in running
            if now >= _dies_by(row, listed[row.instance_id], rules) + margin
        ),
        stopped=tuple(
            row.instance_id
            for row in running
            if listed[row.instance_id].state is InstanceState.STOPPED
        ),
        revenants=tuple(
            row.instance_id
            for row in rows
            if row.state == "terminated" and not is_gone(listed[row.instance_id])
        ),
        unknown=tuple(
            each for each in listed.values() if each.instance_id not in known and not is_gone(each)
        ),
    )


def is_gone(instance: Instance) -> bool:
    """Whether the cloud says that it is terminated: the only word that counts."""
    return instance.state is InstanceState.TERMINATED


def adopt(instance: Instance, trace: str, rules: ReaperRules) -> Watched:
    """A row for an instance that nobody told of, and whose end has been decided."""
    return Watched(
        instance_id=instance.instance_id,
        job_id=instance.job_id,
        attempt=instance.attempt,
        launch_token=instance.launch_token,
        trace=trace,
        state="ending",
        market=instance.market,
        hourly_price_usd=instance.hourly_price_usd,
        launched_at=instance.launched_at,
        dies_by=instance.launched_at + timedelta(seconds=rules.max_lifetime_seconds),
        end_cause="orphan",
    )


def tell_interruption(interruption: Interruption) -> InstanceInterrupted:
    """The event for a notice."""
    return InstanceInterrupted(
        instance_id=interruption.instance_id,
        job_id=interruption.job_id,
        attempt=interruption.attempt,
        kind=interruption.kind,
        noticed_at=interruption.noticed_at,
    )


def tell_gone(gone: Terminated) -> InstanceTerminated:
    """The event for a recorded end."""
    return InstanceTerminated(
        instance_id=gone.watched.instance_id,
        terminated_at=gone.terminated_at,
        cause=gone.cause,
        spot_interrupted=gone.spot_interrupted,
        billed_seconds=gone.billed_seconds,
        cost_usd=gone.cost_usd,
        job_id=gone.watched.job_id,
        attempt=gone.watched.attempt,
    )


def _gone(
    watched: Watched,
    cause: str,
    terminated_at: datetime,
    *,
    hourly_price_usd: float | None,
    minimum_billed_seconds: int,
    spot_interrupted: bool,
) -> Terminated:
    billed_seconds = decide_billed_seconds(
        watched.market,
        (terminated_at - watched.launched_at).total_seconds(),
        minimum_billed_seconds,
        spot_interrupted=spot_interrupted,
    )
    return Terminated(
        watched=watched,
        cause=cause,
        terminated_at=terminated_at,
        spot_interrupted=spot_interrupted,
        billed_seconds=billed_seconds,
        cost_usd=_cost(hourly_price_usd, billed_seconds),
    )


def _price_of(watched: Watched, instance: Instance) -> float | None:
    """The mean over its life, where the cloud's price has moved since the launch; None: unknown."""
    if instance.hourly_price_usd is None:
        # A cloud that knows the price of a free instance says so. A row that has 0 here is of an
        # earlier release, which did not tell an unknown price from none.
        return watched.hourly_price_usd or None
    return instance.hourly_price_usd or watched.hourly_price_usd or 0.0


def _cost(hourly_price_usd: float | None, billed_seconds: int) -> float | None:
    """In USD; None where the price is not known, unless nothing is billed at all."""
    if billed_seconds == 0:
        return 0.0
    return None if hourly_price_usd is None else hourly_price_usd * billed_seconds / 3600


def _dies_by(row: Watched, instance: Instance, rules: ReaperRules) -> datetime:
    """Its own time, but never more than any instance may live, whatever the row says."""
    longest = timedelta(seconds=rules.max_lifetime_seconds)
    return min(row.dies_by, instance.launched_at + longest)


def _longest(rules: ReaperRules) -> timedelta:
    return timedelta(seconds=rules.max_lifetime_seconds + rules.lifetime_margin_seconds)
