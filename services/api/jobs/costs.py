"""What a job has cost, what of it was wasted, and what on-demand would have cost. Pure.

In USD. What is not known (an instance that is not gone yet, a price that nobody knows) is None and
never 0, which is what a free instance costs. A sum has the instances that are gone, and is None
where what one of them has cost is not known.
"""

from collections.abc import Sequence

from services.api.jobs.model import Attempt
from shared.events.events import Cause

WASTED: frozenset[Cause] = frozenset({"interrupted", "lost", "pull_failed", "superseded"})
"""Ends for which an instance was paid and no container came to its own end."""

DIGITS = 6


def cost_of(attempt: Attempt) -> dict[str, float | None]:
    """One attempt's money. `on_demand_usd` is its billed seconds at the on-demand price."""
    cost, wasted = attempt.cost_usd, None
    if cost is not None:
        wasted = cost if attempt.cause in WASTED else 0.0
    on_demand = None
    if attempt.billed_seconds is not None and attempt.on_demand_hourly_price_usd is not None:
        on_demand = attempt.billed_seconds * attempt.on_demand_hourly_price_usd / 3600
    return {
        "cost_usd": _rounded(cost),
        "wasted_usd": _rounded(wasted),
        "on_demand_usd": _rounded(on_demand),
    }


def cost_of_all(attempts: Sequence[Attempt]) -> dict[str, float | None]:
    """A job's money so far.

    On-demand instances are not taken back: what they would have cost is that of the attempts that
    were not wasted, and unknown as long as one of these is.
    """
    costs = [cost_of(each) for each in attempts]
    gone = [
        cost for each, cost in zip(attempts, costs, strict=True) if each.billed_seconds is not None
    ]
    served = [
        cost["on_demand_usd"]
        for each, cost in zip(attempts, costs, strict=True)
        if each.cause not in WASTED and each.instance_id is not None
    ]
    return {
        "cost_usd": _sum([cost["cost_usd"] for cost in gone]),
        "wasted_usd": _sum([cost["wasted_usd"] for cost in gone]),
        "on_demand_usd": _sum(served),
    }


def _sum(amounts: Sequence[float | None]) -> float | None:
    """None where there is nothing to add, or one amount is not known."""
    known = [each for each in amounts if each is not None]
    return _rounded(sum(known)) if known and len(known) == len(amounts) else None


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, DIGITS)
