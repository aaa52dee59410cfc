"""The reaper's decisions. Pure: time and jitter are arguments."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from services.reaper.costs import decide_cost, other_prices_of, price_of
from services.reaper.model import (
    Findings,
    Interruption,
    Terminated,
    UnknownInstance,
    Watched,
    Watermark,
)
from shared.compute.port import Instance, InstanceState
from shared.events.costs import OtherPrices
from shared.events.events import InstanceInterrupted, InstanceTerminated, Market

FREE_IF_INTERRUPTED_WITHIN_SECONDS = 3600
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html"""


class ReaperRules(Struct, frozen=True, kw_only=True):
    """The settings that decisions need. Durations in seconds."""

    visibility_seconds: float
    orphan_seconds: float
    max_lifetime_seconds: float
    lifetime_margin_seconds: float
    watch_seconds: float = 5
    ask_seconds: float = 30
    not_found_seconds: float = 4200


COUNTED_INTERVALS = 3
"""Watch intervals that count between two lists, however far apart they are: a reaper that is slow
or restarts often still finds what is missing or orphaned, after more lists.
"""


def decide_unlisted(listed_at: datetime | None, now: datetime, rules: ReaperRules) -> timedelta:
    """Return the part of the time since the last complete list that counts against no instance.

    In it the reaper was down, or the cloud or the database did not answer: nothing was seen.
    """
    if listed_at is None:
        return timedelta()
    counted = timedelta(seconds=COUNTED_INTERVALS * rules.watch_seconds)
    return max(timedelta(), now - listed_at - counted)


def decide_billed_seconds(
    market: Market, lived_seconds: float, minimum_seconds: int, *, spot_interrupted: bool
) -> int:
    """Return the seconds for which an instance is billed.

    By the second, with a minimum; an instance that the Spot market reclaimed within its first hour
    is free.
    """
    seconds = max(0, math.ceil(lived_seconds))  # clocks within a cloud may disagree
    free = spot_interrupted and market == "spot" and seconds < FREE_IF_INTERRUPTED_WITHIN_SECONDS
    return 0 if free else max(minimum_seconds, seconds)


def end_of(
    watched: Watched,
    cause: str,
    terminated_at: datetime,
    *,
    hourly_price_usd: float | None,
    other_prices: OtherPrices | None,
    minimum_billed_seconds: int,
    spot_interrupted: bool,
) -> Terminated:
    """Return the end of *watched* with what is billed for it."""
    lived_seconds = (terminated_at - watched.launched_at).total_seconds()
    billed_seconds = decide_billed_seconds(
        watched.market, lived_seconds, minimum_billed_seconds, spot_interrupted=spot_interrupted
    )
    used_seconds = decide_billed_seconds(
        watched.market, lived_seconds, minimum_billed_seconds, spot_interrupted=False
    )
    cost_usd, lines = decide_cost(hourly_price_usd, other_prices, billed_seconds, used_seconds)
    return Terminated(
        watched=watched,
        cause=cause,
        terminated_at=terminated_at,
        spot_interrupted=spot_interrupted,
        billed_seconds=billed_seconds,
        cost_usd=cost_usd,
        cost_lines=lines,
    )


def decide_termination(watched: Watched, instance: Instance, now: datetime) -> Terminated:
    """Return the end of *watched*, which the cloud shows as terminated."""
    if instance.spot_interrupted:
        cause = "interrupted"
    else:
        cause = watched.end_cause or instance.state_reason or "ended by itself"
    return end_of(
        watched,
        cause,
        instance.terminated_at or now,
        hourly_price_usd=price_of(watched, instance),
        other_prices=other_prices_of(watched, instance),
        minimum_billed_seconds=instance.minimum_billed_seconds,
        spot_interrupted=instance.spot_interrupted,
    )


def trusted_before(watermark: Watermark) -> datetime | None:
    """Return the time before which each launch is published *and* received; None: not known yet.

    Events come in any order, so the watermark counts only once every launch that it counts is here.
    """
    complete = watermark.received_through >= watermark.launch_sequence
    return watermark.before if complete else None


def decide_orphan(
    unknown: UnknownInstance, trusted: datetime | None, now: datetime, rules: ReaperRules
) -> bool:
    """Return whether an instance that only the cloud's list shows is orphaned, and so ended.

    Never at first sight. Later only if its attempt has ended, if its launch would have been
    received by now, or if it is past any lifetime. Otherwise its launch may still be on its way
    (the broker is down, the launcher slow), and it waits.
    """
    if now - unknown.first_seen_at < timedelta(seconds=rules.orphan_seconds):
        return False
    launched_at = unknown.instance.launched_at
    longest = timedelta(seconds=rules.max_lifetime_seconds + rules.lifetime_margin_seconds)
    return (
        unknown.attempt_ended
        or (trusted is not None and launched_at < trusted)
        or now >= launched_at + longest
    )


def decide_findings(
    rows: Sequence[Watched], listed: Mapping[str, Instance], now: datetime, rules: ReaperRules
) -> Findings:
    """Compare *rows* (all that live, and all of *listed*) with a complete list of the cloud."""
    living = {instance_id for instance_id, each in listed.items() if not is_terminated(each)}
    unknown = living - {row.instance_id for row in rows}
    alive = [row for row in rows if row.state != "terminated"]
    absent = [row for row in alive if row.instance_id not in listed]
    present = [row for row in alive if row.instance_id in listed]
    running = [row for row in present if row.state == "running" and row.instance_id in living]
    ended = [
        decide_termination(row, listed[row.instance_id], now)
        for row in present
        if row.instance_id not in living
    ]
    margin = timedelta(seconds=rules.lifetime_margin_seconds)
    return Findings(
        terminated=tuple(ended),
        missing=_ids(row for row in absent if row.missing_since is None),
        visible_again=_ids(row for row in present if row.missing_since is not None),
        expired=_ids(
            row for row in running if now >= _dies_by(row, listed[row.instance_id], rules) + margin
        ),
        stopped=_ids(
            row for row in running if listed[row.instance_id].state is InstanceState.STOPPED
        ),
        alive_after_end=_ids(
            row for row in rows if row.state == "terminated" and row.instance_id in living
        ),
        unknown=tuple(each for each in listed.values() if each.instance_id in unknown),
    )


def _ids(rows: Iterable[Watched]) -> tuple[str, ...]:
    return tuple(row.instance_id for row in rows)


def is_terminated(instance: Instance) -> bool:
    """Return whether the cloud reports it as terminated: the only proof that counts."""
    return instance.state is InstanceState.TERMINATED


def adopt(instance: Instance, trace: str, rules: ReaperRules) -> Watched:
    """Make the row of an orphaned instance, which is to end."""
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
        other_prices=instance.other_prices,
        end_cause="orphan",
    )


def interruption_event(interruption: Interruption) -> InstanceInterrupted:
    """Make the event of a notice."""
    return InstanceInterrupted(
        instance_id=interruption.instance_id,
        job_id=interruption.job_id,
        attempt=interruption.attempt,
        kind=interruption.kind,
        noticed_at=interruption.noticed_at,
    )


def termination_event(terminated: Terminated, console: str | None = None) -> InstanceTerminated:
    """Make the event of a recorded end; *console* is what is kept of the instance's console."""
    return InstanceTerminated(
        instance_id=terminated.watched.instance_id,
        terminated_at=terminated.terminated_at,
        cause=terminated.cause,
        spot_interrupted=terminated.spot_interrupted,
        billed_seconds=terminated.billed_seconds,
        cost_usd=terminated.cost_usd,
        job_id=terminated.watched.job_id,
        attempt=terminated.watched.attempt,
        cost_lines=terminated.cost_lines,
        console_output=console,
    )


def _dies_by(row: Watched, instance: Instance, rules: ReaperRules) -> datetime:
    """Return the end of its lifetime, never later than any instance may live."""
    longest = timedelta(seconds=rules.max_lifetime_seconds)
    return min(row.dies_by, instance.launched_at + longest)
