"""Decides which launches the quotas admit, and why another waits. Pure.

    used + what it needs ≤ each limit ─▶ admitted, and used from now on
                                    └─▶ held: the first limit that it would pass, in words

The oldest is admitted first, and one that does not fit leaves room to those behind it: a key over
its quota, or a launch that can never fit, blocks no other. A dollar quota is one of a UTC day. An
instance counts with its price until its time limit or the day's end, whichever is sooner.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from shared.events.quotas import Limits, Use
from shared.quota_settings import UNKNOWN_PRICE, Kind, Owner, Quotas, setting_of

RETRY = timedelta(minutes=10)
"""A held launch is tried again after this time, if nothing has made room for it before."""

HOUR = 3600.0
_SLACK = 1e-9
"""Sums of prices are not exact."""


class Usage(Use, frozen=True, kw_only=True):
    """The use of quotas, and how many of the instances still promise dollars of this day."""

    promising: int = 0

    @property
    def usd(self) -> float:
        """Return what is spent and promised."""
        return self.spent_usd + self.promised_usd


class Need(Struct, frozen=True, kw_only=True):
    """The needs of a launch. `hourly_usd` is None if its price is not known."""

    created_by: str | None
    vcpus: int
    hourly_usd: float | None
    lifetime_seconds: float


class Hold(Struct, frozen=True, kw_only=True):
    """The quota that a launch waits for (*limit* is its setting), in words, until when at most."""

    limit: str
    message: str
    until: datetime


def day_of(now: datetime) -> tuple[datetime, datetime]:
    """Return the beginning and the end of the UTC day of *now*, which is in UTC."""
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + timedelta(days=1)


def total_of(used: Mapping[str | None, Usage]) -> Usage:
    """Return what the deployment uses, from the use by API key (None: jobs without one)."""
    total = Usage()
    for each in used.values():
        total = _plus(total, each)
    return total


def decide_admission(
    needs: Sequence[Need], used: Mapping[str | None, Usage], quotas: Quotas, now: datetime
) -> list[Hold | None]:
    """Return for each of *needs*, the oldest first, why it is held; None: it is admitted.

    *used* is by API key. What is admitted counts as used for those behind it.
    """
    by_key, total = dict(used), total_of(used)
    holds = []
    for need in needs:
        own = by_key.get(need.created_by, Usage())
        hold = _hold(need, None, total, quotas, now)
        if hold is None and need.created_by is not None:
            hold = _hold(need, need.created_by, own, quotas, now)
        if hold is None:
            use = _use_of(need, quotas, now)
            by_key[need.created_by], total = _plus(own, use), _plus(total, use)
        holds.append(hold)
    return holds


def _hold(need: Need, key: str | None, used: Usage, quotas: Quotas, now: datetime) -> Hold | None:
    """Return the limit of the deployment, or of API key *key*, that *need* would pass."""
    limits = quotas.deployment if key is None else quotas.key
    owner: Owner = "QUOTA" if key is None else "KEY_QUOTA"
    who = "the deployment" if key is None else f"API key {key}"
    if limits.instances is not None and used.instances + 1 > limits.instances:
        text = f"{who} has {used.instances} of {limits.instances} live instances"
        return _held(owner, "INSTANCES", text, now + RETRY)
    if limits.vcpus is not None and used.vcpus + need.vcpus > limits.vcpus:
        return _held(owner, "VCPUS", _vcpus(need, who, used, limits.vcpus), now + RETRY)
    use = _use_of(need, quotas, now)
    if limits.usd_per_day is not None and used.usd + use.usd > limits.usd_per_day + _SLACK:
        hour = need.hourly_usd if need.hourly_usd is not None else quotas.unknown_price_usd
        return _dollars(need, f"{who}'s", used, hour, use.usd, limits, owner, now)
    return None


def _vcpus(need: Need, who: str, used: Usage, limit: int) -> str:
    if need.vcpus > limit:
        return f"it needs up to {need.vcpus} vCPUs, and {who}'s quota is {limit}"
    return f"{who} has {used.vcpus} of {limit} vCPUs in use, and it needs up to {need.vcpus}"


def _dollars(
    need: Need,
    whose: str,
    used: Usage,
    hour: float,
    cost: float,
    limits: Limits,
    owner: Owner,
    now: datetime,
) -> Hold:
    end = day_of(now)[1]
    limit = limits.usd_per_day or 0.0
    priced = (
        "" if need.hourly_usd is not None else f" at the {hour:g} USD an hour of {UNKNOWN_PRICE}"
    )
    if hour * min(need.lifetime_seconds, HOUR) / HOUR > limit:
        text = f"it costs {_usd(hour)} USD an hour{priced}, and {whose} quota is {limit:g} a day"
        return _held(owner, "USD_PER_DAY", text, end)
    if cost > limit:
        text = (
            f"it may cost {_usd(cost)} USD until its time limit or {end:%H:%M} UTC{priced}, and "
            f"{whose} quota is {limit:g} a day: with a shorter timeout_seconds it promises less"
        )
        return _held(owner, "USD_PER_DAY", text, end)
    running = "1 running instance" if used.promising == 1 else f"{used.promising} running instances"
    parts = (
        f"{_usd(used.spent_usd)} spent",
        f"{_usd(used.promised_usd)} promised by {running}",
        f"it may cost {_usd(cost)}{priced}",
    )
    text = f"{whose} {limit:g} USD a day are spent until {end:%H:%M} UTC"
    return _held(owner, "USD_PER_DAY", text, end, f"{', '.join(parts)}; ")


def _held(owner: Owner, kind: Kind, text: str, until: datetime, more: str = "") -> Hold:
    setting = setting_of(owner, kind)
    return Hold(limit=setting, message=f"{text} ({more}{setting})", until=until)


def _use_of(need: Need, quotas: Quotas, now: datetime) -> Usage:
    """Return what *need* uses once it is asked for: all of it is promised."""
    seconds = min(timedelta(seconds=need.lifetime_seconds), day_of(now)[1] - now).total_seconds()
    hour = quotas.unknown_price_usd if need.hourly_usd is None else need.hourly_usd
    return Usage(
        instances=1, vcpus=need.vcpus, promised_usd=hour * max(seconds, 0) / HOUR, promising=1
    )


def _plus(one: Usage, other: Usage) -> Usage:
    return replace(
        one,
        instances=one.instances + other.instances,
        vcpus=one.vcpus + other.vcpus,
        spent_usd=one.spent_usd + other.spent_usd,
        promised_usd=one.promised_usd + other.promised_usd,
        promising=one.promising + other.promising,
    )


def _usd(amount: float) -> str:
    """Write an amount to the cent; a smaller one that is not 0 with four digits."""
    return f"{amount:.4f}" if 0 < amount < 0.01 else f"{amount:.2f}"
