"""Decisions before a call to the cloud: its contents and its time. Pure, like `decisions.py`.

due launches ─▶ is it time? (decide_gather) ─▶ launches of one offer (decide_groups)
             ─▶ a plan for each group, made outside ─▶ the batch to commit (decide_batch)
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.launcher.model import TRANSITIONS, BatchRecord, Launch
from shared.compute.avoided import Avoided
from shared.compute.port import LaunchBatch, LaunchRequest, Offer, Plan
from shared.events.events import Market
from shared.quota_settings import NO_QUOTAS, Quotas
from shared.tokens import bootstrap_token


class Home(Struct, frozen=True, kw_only=True):
    """The settings that all offers of a deployment share, and the pools that they avoid."""

    deployment: str
    api_url: str
    spot_wait_seconds: float
    avoid: tuple[Avoided, ...] = ()
    quotas: Quotas = NO_QUOTAS


class Gather(Struct, frozen=True, kw_only=True):
    """Time to gather launches before a call: until none came for *idle*, *longest* at most.

    Karpenter's figures for its CreateFleet calls are 35 ms and 1 s (its `BATCH_IDLE_DURATION` and
    `BATCH_MAX_DURATION` are for pods).
    """

    idle_seconds: float
    longest_seconds: float


class Growth(Struct, frozen=True, kw_only=True):
    """The newest due launch, and when a pass first saw it."""

    newest: datetime
    seen_at: datetime


class Group(Struct, frozen=True, kw_only=True):
    """Launches that one call can ask for, in the order of their due times."""

    offer: Offer
    launches: tuple[Launch, ...]


def launch_token(deployment: str, job_id: int, attempt: int, offer: int) -> str:
    """Derive the idempotency key of one offer, the same for each repeated call.

    64 characters, the most that EC2's ClientToken may have.
    """
    text = f"launch/{deployment}/{job_id}/{attempt}/{offer}"
    return hashlib.sha256(text.encode()).hexdigest()


def batch_token(plan_hash: str, launch_tokens: Sequence[str]) -> str:
    """Derive the idempotency key of one call from its plan and its launches."""
    text = "/".join(("batch", plan_hash, *launch_tokens))
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of(plan: Plan) -> str:
    """Hash *plan*; equal plans have equal hashes, also after they were read from the database."""
    return hashlib.sha256(msgspec.json.encode(plan, order="sorted")).hexdigest()


def decide_growth(due: Sequence[Launch], before: Growth | None, now: datetime) -> Growth | None:
    """Return when the newest of *due* was first seen; None: nothing is due.

    Seen and not due: a launch is due from the beginning of the transaction that added it, and in a
    burst these transactions take longer than the pause that `decide_gather` waits for.
    """
    newest = max((each.due_at for each in due if each.due_at is not None), default=None)
    if newest is None:
        return None
    return before if before and before.newest >= newest else Growth(newest=newest, seen_at=now)


def decide_gather(
    due: Sequence[Launch], growth: Growth | None, now: datetime, limit: int, gather: Gather | None
) -> datetime | None:
    """Return until when to wait for more launches; None: ask now.

    Waiting pays only if a batch is one call (*gather* is None if it is not) and is not full with
    *limit* launches. A launch that is due again after a refusal counts from that due time.
    """
    if gather is None or growth is None or len(due) >= limit:
        return None
    oldest = min((each.due_at for each in due if each.due_at is not None), default=now)
    quiet_at = growth.seen_at + timedelta(seconds=gather.idle_seconds)
    until = min(quiet_at, oldest + timedelta(seconds=gather.longest_seconds))
    return until if now < until else None


def spot_ends_at(launch: Launch, spot_wait_seconds: float) -> datetime | None:
    """Return until when a launch waits for Spot; None: forever, or not at all."""
    wanted = launch.requirements
    if wanted.capacity == "on_demand" or (
        wanted.capacity == "spot" and wanted.spot_wait_seconds is None
    ):
        return None
    own = wanted.spot_wait_seconds
    return launch.wanted_at + timedelta(seconds=spot_wait_seconds if own is None else own)


def decide_market(launch: Launch, now: datetime, spot_wait_seconds: float) -> Market:
    """Return the market of the next offer for *launch*."""
    if launch.requirements.capacity == "on_demand":
        return "on-demand"
    if launch.requirements.capacity == "spot":
        return "spot"
    ends_at = spot_ends_at(launch, spot_wait_seconds)
    return "on-demand" if ends_at is not None and now >= ends_at else "spot"


def most_vcpus(launch: Launch, quotas: Quotas) -> int | None:
    """Return the vCPUs of the largest instance that the quotas can ever admit for *launch*."""
    of_key = quotas.key.vcpus if launch.requirements.created_by is not None else None
    return min((each for each in (quotas.deployment.vcpus, of_key) if each), default=None)


def decide_groups(due: Sequence[Launch], now: datetime, limit: int, home: Home) -> list[Group]:
    """Group launches that one call can ask for, at most *limit* in each group.

    Throttled launches come back in halves, quarters and so on: a batch may be refused for its size
    alone (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html,
    "resource token bucket").
    """
    together: dict[bytes, tuple[Offer, list[Launch]]] = {}
    for launch in due:
        offer = Offer(
            deployment=home.deployment,
            api_url=home.api_url,
            market=decide_market(launch, now, home.spot_wait_seconds),
            resources=launch.requirements.resources,
            tags=launch.requirements.tags,
            avoid=home.avoid,
            most_vcpus=most_vcpus(launch, home.quotas),
        )
        key = msgspec.json.encode(offer, order="sorted")
        together.setdefault(key, (offer, []))[1].append(launch)
    groups = []
    for offer, launches in together.values():
        size = min(_most_with(each, limit) for each in launches)
        groups += [
            Group(offer=offer, launches=tuple(launches[start : start + size]))
            for start in range(0, len(launches), size)
        ]
    return groups


def decide_batch(group: Group, plan: Plan, now: datetime) -> BatchRecord:
    """Return what is committed before the cloud is asked: a batch, with its launches in order."""
    tokens = [
        launch_token(group.offer.deployment, each.job_id, each.attempt, each.offer)
        for each in group.launches
    ]
    plan_hash = hash_of(plan)
    batch = BatchRecord(
        token=batch_token(plan_hash, tokens), plan=plan, plan_hash=plan_hash, asked_at=now
    )
    launches = [
        _asked(launch, group.offer, batch, place, token)
        for place, (launch, token) in enumerate(zip(group.launches, tokens, strict=True))
    ]
    return replace(batch, launches=tuple(launches))


def call_of(batch: BatchRecord, token_key: str, now: datetime) -> LaunchBatch:
    """Return the call for *batch*: the same every time, with the bootstrap tokens."""
    return LaunchBatch(
        token=batch.token,
        requests=tuple(
            _with_bootstrap_token(each.params, token_key)
            for each in batch.launches
            if each.params is not None
        ),
        plan=batch.plan,
        repeated=batch.repeated,
        age_seconds=max(0.0, (now - batch.asked_at).total_seconds()),
    )


def _most_with(launch: Launch, limit: int) -> int:
    """Return how many launches may be in one call with *launch*."""
    if launch.reason != "throttled":
        return limit
    most: int = limit >> min(launch.tries, 16)
    return max(1, most)


def _asked(launch: Launch, offer: Offer, batch: BatchRecord, place: int, token: str) -> Launch:
    if "asked" not in TRANSITIONS[launch.state]:
        raise ValueError(f"a launch that is {launch.state} cannot be asked for")
    return replace(
        launch,
        state="asked",
        launch_token=token,
        params=LaunchRequest(
            token=token,
            deployment=offer.deployment,
            job_id=launch.job_id,
            attempt=launch.attempt,
            max_lifetime_seconds=launch.requirements.max_lifetime_seconds,
            api_url=offer.api_url,
            market=offer.market,
            resources=offer.resources,
        ),
        asked_at=batch.asked_at,
        batch_token=batch.token,
        batch_place=place,
    )


def _with_bootstrap_token(request: LaunchRequest, token_key: str) -> LaunchRequest:
    token = bootstrap_token(token_key, request.deployment, request.job_id, request.attempt)
    return replace(request, bootstrap_token=token)
