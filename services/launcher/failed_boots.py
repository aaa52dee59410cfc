"""Pools to avoid since instances there did not boot. Pure.

    one in a pool ─▶ the pool is avoided for 15 minutes
    two jobs' in a zone, or of a type ─▶ the zone, or the type, is avoided for an hour
    an instance boots after a pause ─▶ nothing is avoided

An attempt ends as a failed boot where an agent never claimed it (`AttemptEnded.boot_failed`). One
for which the cloud names a fault of the account (`account_fault`) says nothing about its pool. To
avoid is no refusal: a pool of which the fewest marks are known is always left (`least_avoided`).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from shared.compute.avoided import Avoided

POOL_REST = timedelta(minutes=15)
LONG_REST = timedelta(hours=1)
"""After those of two jobs in one zone, or of one type; nothing older is kept."""

SEVERAL = 2
"""Jobs: one alone may ask for what boots nowhere."""


class PoolFailure(Struct, frozen=True, kw_only=True):
    """An instance of a job that did not boot, by its pool."""

    job_id: int
    instance_type: str
    zone: str
    failed_at: datetime


def decide_avoided(failed: Sequence[PoolFailure], now: datetime) -> tuple[Avoided, ...]:
    """Return what to avoid now, in one order."""
    lately = [each for each in failed if now - each.failed_at < LONG_REST]
    pools = {(each.instance_type, each.zone) for each in lately if now - each.failed_at < POOL_REST}
    zones = _several(lately, lambda each: each.zone)
    types = _several(lately, lambda each: each.instance_type)
    return (
        *(Avoided(instance_type=name, zone=zone) for name, zone in sorted(pools)),
        *(Avoided(zone=each) for each in zones),
        *(Avoided(instance_type=each) for each in types),
    )


def _several(failed: Sequence[PoolFailure], name: Callable[[PoolFailure], str]) -> list[str]:
    jobs: dict[str, set[int]] = {}
    for each in failed:
        jobs.setdefault(name(each), set()).add(each.job_id)
    return sorted(each for each, found in jobs.items() if len(found) >= SEVERAL)
