"""The cost of a job, the wasted part of it, and the cost on demand. In USD. Pure.

An unknown amount (an instance not terminated yet, an unknown price) is None and never 0, which is
the cost of a free instance. A sum covers the terminated instances, and is None if the cost of one
of them is unknown. A cost is that of the instance, its public IPv4 address and its volume; where an
earlier release has published it, that of the instance alone.
"""

from collections.abc import Sequence
from datetime import datetime

from services.api.jobs.model import Attempt
from shared.events.causes import Cause
from shared.events.costs import CostLines, OtherPrices

WASTED: frozenset[Cause] = frozenset({"interrupted", "lost", "pull_failed", "superseded"})
"""Causes for which an instance was paid and no container exited by itself."""

DIGITS = 6


def price_of(seconds: float, hourly_price_usd: float | None) -> float | None:
    """Return the price of so many seconds; none below 0, which a clock that runs ahead makes."""
    return None if hourly_price_usd is None else max(0.0, seconds) * hourly_price_usd / 3600


def hourly_with(hourly_price_usd: float | None, other: OtherPrices | None) -> float | None:
    """Return the price of an hour with address and volume; without *other*, the price alone."""
    if other is None:
        return hourly_price_usd
    return _whole(hourly_price_usd, other.public_ipv4_hourly_usd, other.volume_hourly_usd)


def cost_of(attempt: Attempt) -> dict[str, float | None]:
    """Return one attempt's costs.

    `on_demand_usd`: its billed seconds at the on-demand price, and its address and volume.
    """
    cost, wasted = attempt.cost_usd, None
    if cost is not None:
        wasted = cost if attempt.cause in WASTED else 0.0
    on_demand = None
    if attempt.billed_seconds is not None:
        instance = price_of(attempt.billed_seconds, attempt.on_demand_hourly_price_usd)
        on_demand = _with_lines(instance, attempt.cost_lines)
    return {
        "cost_usd": rounded(cost),
        "wasted_usd": rounded(wasted),
        "on_demand_usd": rounded(on_demand),
    }


def _with_lines(instance_usd: float | None, lines: CostLines | None) -> float | None:
    """Return what the instance would cost with the address and the volume of *lines*."""
    if lines is None:
        return instance_usd
    return _whole(rounded(instance_usd), lines.public_ipv4_usd, lines.volume_usd)


def _whole(*parts: float | None) -> float | None:
    """Return the sum; None if one part is unknown."""
    known = [each for each in parts if each is not None]
    return sum(known) if len(known) == len(parts) else None


def cost_so_far(attempts: Sequence[Attempt]) -> float | None:
    """Return the cost of the instances terminated so far: the sum of what is shown of each."""
    return _sum([rounded(each.cost_usd) for each in attempts if each.billed_seconds is not None])


def cost_estimate(attempts: Sequence[Attempt], now: datetime) -> float | None:
    """Return the cost so far, in which an instance that is not terminated counts until *now*."""
    return _sum([_until(each, now) for each in attempts if each.instance_id is not None])


def _until(attempt: Attempt, now: datetime) -> float | None:
    if attempt.billed_seconds is not None:
        return attempt.cost_usd
    launched_at = attempt.entered.get("booting")
    if launched_at is None:
        return None
    hourly = hourly_with(attempt.hourly_price_usd, attempt.other_prices)
    return price_of((now - launched_at).total_seconds(), hourly)


def cost_of_all(attempts: Sequence[Attempt]) -> dict[str, float | None]:
    """Return a job's costs so far.

    On-demand instances are not interrupted: their cost would be that of the attempts that were not
    wasted, and is unknown if one of these is.
    """
    costs = [cost_of(each) for each in attempts]
    terminated = [
        cost for each, cost in zip(attempts, costs, strict=True) if each.billed_seconds is not None
    ]
    served = [
        cost["on_demand_usd"]
        for each, cost in zip(attempts, costs, strict=True)
        if each.cause not in WASTED and each.instance_id is not None
    ]
    return {
        "cost_usd": cost_so_far(attempts),
        "wasted_usd": _sum([cost["wasted_usd"] for cost in terminated]),
        "on_demand_usd": _sum(served),
    }


def _sum(amounts: Sequence[float | None]) -> float | None:
    """Return the sum; None if there is nothing to add, or one amount is unknown."""
    known = [each for each in amounts if each is not None]
    return rounded(sum(known)) if known and len(known) == len(amounts) else None


def rounded(amount: float | None) -> float | None:
    """Return *amount* as answers show it."""
    return None if amount is None else round(amount, DIGITS)
