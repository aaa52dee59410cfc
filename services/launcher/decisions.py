"""What the launcher decides. Pure: time and jitter come in as arguments."""

import hashlib
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.launcher.model import TRANSITIONS, Launch, Params, Reason, State, Verdict
from shared.backoff import Backoff
from shared.compute.port import (
    ComputeError,
    Instance,
    LaunchRequest,
    NoCapacity,
    QuotaReached,
    Rejected,
    Throttled,
    Unknown,
)
from shared.events import InstanceLaunched, LaunchDelayed, LaunchesReported, LaunchRefused
from shared.tokens import bootstrap_token

ERROR_LENGTH = 2000
"""Characters that are kept of a cloud's error message."""

REASONS: dict[type[ComputeError], Reason] = {
    NoCapacity: "no_capacity",
    QuotaReached: "quota_reached",
    Throttled: "throttled",
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


def launch_token(deployment: str, job_id: int, attempt: int, offer: int) -> str:
    """The idempotency key of one offer: derived, so that whoever asks again asks the same.

    64 characters, the most that EC2's ClientToken may have.
    """
    text = f"launch/{deployment}/{job_id}/{attempt}/{offer}"
    return hashlib.sha256(text.encode()).hexdigest()


def decide_intent(launch: Launch, deployment: str, api_url: str, now: datetime) -> Launch:
    """The claimed *launch* as it is committed before the cloud is asked.

    One that was `asked` already (its claimant crashed or was too slow, or the outcome was unknown)
    keeps its token, its parameters and the moment of its first call. After a refusal for quota or
    throttling the same offer is made again.
    """
    token = launch.launch_token or launch_token(
        deployment, launch.job_id, launch.attempt, launch.offer
    )
    params = launch.params or Params(
        token=token,
        deployment=deployment,
        job_id=launch.job_id,
        attempt=launch.attempt,
        max_lifetime_seconds=launch.requirements.max_lifetime_seconds,
        labels=launch.requirements.labels,
        api_url=api_url,
    )
    return replace(
        launch if launch.state == "asked" else _become(launch, "asked"),
        launch_token=token,
        params=params,
        asked_at=launch.asked_at or now,
        uncertain=launch.state == "asked",
    )


def request_of(params: Params, token_key: str) -> LaunchRequest:
    """The call for *params*: the same every time."""
    return LaunchRequest(
        token=params.token,
        deployment=params.deployment,
        job_id=params.job_id,
        attempt=params.attempt,
        max_lifetime_seconds=params.max_lifetime_seconds,
        labels=params.labels,
        api_url=params.api_url,
        bootstrap_token=bootstrap_token(
            token_key, params.deployment, params.job_id, params.attempt
        ),
    )


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
        launch_token=launch.params.token,
        instance_id=instance.instance_id,
        instance_type=instance.instance_type,
        zone=instance.zone,
        market=instance.market,
        hourly_price_usd=instance.hourly_price_usd,
        launched_at=instance.launched_at,
        dies_by=instance.launched_at + lifetime,
        told=told,
        spot_instance_request_id=instance.spot_instance_request_id,
    )
    return Verdict(launch=settled, events=(event,))


def decide_refusal(
    launch: Launch, error: ComputeError, now: datetime, jitter: float, pace: Pace
) -> Verdict:
    """The cloud has shown no instance: what comes next is what the error names."""
    definite = isinstance(error, (NoCapacity, QuotaReached, Rejected)) or (
        # Throttling comes before the cloud looks at the token: of an earlier call it says nothing.
        isinstance(error, Throttled) and not launch.uncertain
    )
    last_error = str(error)[:ERROR_LENGTH]
    if definite and launch.unwanted:
        cancelled = _become(launch, "cancelled")
        return Verdict(
            launch=replace(cancelled, due_at=None, settled_at=now, last_error=last_error)
        )
    if isinstance(error, Rejected):
        refused = _become(launch, "refused")
        event = LaunchRefused(
            job_id=launch.job_id,
            attempt=launch.attempt,
            message=last_error or "the cloud will not launch this",
        )
        return Verdict(
            launch=replace(refused, due_at=None, settled_at=now, last_error=last_error),
            events=(event,),
        )
    waiting = _postpone(launch, error, now, jitter, pace)
    if definite:
        waiting = replace(_become(waiting, "wanted"), asked_at=None, uncertain=False)
    else:
        waiting = replace(waiting, uncertain=True)
    if isinstance(error, NoCapacity):
        waiting = replace(waiting, offer=launch.offer + 1, launch_token=None, params=None)
    return _tell_delay(waiting, launch, now, pace)


def decide_watermark(
    told: int, oldest_asked_at: datetime | None, now: datetime, margin_seconds: float
) -> LaunchesReported:
    """Each launch asked for before *before* has been told.

    *told* and *oldest_asked_at* must be of one moment: the counter's row locked, then the rows
    read. A call that is being recorded then either has its number and is in *told*, or its row is
    still seen as `asked` and holds the watermark back.

    The margin pays for two things that no lock can order. A claim that has read the clock and has
    not committed yet is not seen; its call comes after its commit, and a transaction is over within
    30 s (`statement_seconds`). And the reaper compares the watermark with the cloud's own launch
    time, whose clock is not ours.
    """
    before = min(oldest_asked_at or now, now) - timedelta(seconds=margin_seconds)
    return LaunchesReported(before=before, told=told)


def _postpone(
    launch: Launch, error: ComputeError, now: datetime, jitter: float, pace: Pace
) -> Launch:
    reason = REASONS.get(type(error), "unknown_outcome")
    tries = launch.tries + 1 if reason == launch.reason else 1
    backoff = pace.unknown if reason == "unknown_outcome" else pace.refused
    return replace(
        launch,
        reason=reason,
        tries=tries,
        due_at=now + timedelta(seconds=backoff.delay(tries, jitter)),
        last_error=str(error)[:ERROR_LENGTH],
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
