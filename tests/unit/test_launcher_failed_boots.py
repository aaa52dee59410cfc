"""Pools to avoid since instances there did not boot."""

import itertools
from datetime import UTC, datetime, timedelta

from services.launcher.failed_boots import LONG_REST, POOL_REST, PoolFailure, decide_avoided
from shared.compute.avoided import Avoided, least_avoided

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = itertools.count(1)
A, B = "us-east-1a", "us-east-1b"
PLACES = [("m5.large", A), ("c5.large", A), ("m5.large", B), ("c5.large", B)]


def failed(
    instance_type: str, zone: str, ago: float = 0, *, job_id: int | None = None
) -> PoolFailure:
    """Return a failed boot, each of a job of its own."""
    at, job_id = NOW - timedelta(seconds=ago), next(JOBS) if job_id is None else job_id
    return PoolFailure(job_id=job_id, instance_type=instance_type, zone=zone, failed_at=at)


def chosen(*boots: PoolFailure) -> list[tuple[str, str]]:
    return least_avoided(PLACES, decide_avoided(boots, NOW), lambda each: each)


def test_one_failed_boot_avoids_its_pool_for_a_while() -> None:
    assert chosen() == PLACES
    assert chosen(failed("m5.large", A)) == PLACES[1:]
    assert chosen(failed("m5.large", A, POOL_REST.total_seconds())) == PLACES


def test_two_in_one_zone_avoid_the_zone_for_longer() -> None:
    an_hour = LONG_REST.total_seconds()
    both = failed("m5.large", A, an_hour - 1), failed("c5.large", A, an_hour - 2)
    assert chosen(*both) == [("m5.large", B), ("c5.large", B)]
    assert chosen(failed("m5.large", A, an_hour), both[1]) == PLACES


def test_two_of_one_type_avoid_the_type_for_longer() -> None:
    assert chosen(failed("m5.large", A), failed("m5.large", B)) == [
        ("c5.large", A),
        ("c5.large", B),
    ]


def test_one_job_alone_avoids_its_pools_and_no_zone_or_type() -> None:
    own = failed("m5.large", A, job_id=7), failed("c5.large", A, job_id=7)
    assert chosen(*own) == [("m5.large", B), ("c5.large", B)]
    assert chosen(own[0], failed("m5.large", A, job_id=7)) == PLACES[1:]
    assert chosen(*own, failed("m5.large", B, job_id=7)) == [("c5.large", B)]
    late = POOL_REST.total_seconds()
    assert chosen(*(failed(*each, late, job_id=7) for each in PLACES * 2)) == PLACES


def test_where_instances_boot_nowhere_there_is_always_a_choice() -> None:
    assert chosen(*(failed(*each) for each in PLACES * 2)) == PLACES
    alone = [("m5.large", A)]
    avoid = [Avoided(zone=A), Avoided(instance_type="m5.large")]
    assert least_avoided(alone, avoid, lambda each: each) == alone
    assert least_avoided([], avoid, lambda each: each) == []
