"""The launches that the quotas admit: tables of the pure decision, and its settings."""

from datetime import UTC, datetime, timedelta

import pytest

from services.api.submission.job_quotas import decide_refused
from services.launcher.quotas import RETRY, Need, Usage, day_of, decide_admission
from shared.events.quotas import Limits
from shared.quota_settings import Quotas, read_quotas
from shared.settings import BadSetting, Settings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)


def need(key: str | None = None, vcpus: int = 2, usd: float | None = 1.0, hours: float = 1) -> Need:
    return Need(created_by=key, vcpus=vcpus, hourly_usd=usd, lifetime_seconds=hours * 3600)


def admitted(
    needs: list[Need],
    quotas: Quotas,
    used: dict[str | None, Usage] | None = None,
    now: datetime = NOON,
) -> list[bool]:
    return [each is None for each in decide_admission(needs, used or {}, quotas, now)]


def of_deployment(**limits: float) -> Quotas:
    return Quotas(deployment=Limits(**limits))  # type: ignore[arg-type]


def test_the_oldest_are_admitted_up_to_the_limit() -> None:
    assert admitted([need()] * 4, of_deployment(instances=3), {None: Usage(instances=1)}) == [
        True,
        True,
        False,
        False,
    ]


def test_one_that_does_not_fit_leaves_room_to_those_behind_it() -> None:
    needs = [need(vcpus=6), need(vcpus=4), need(vcpus=2)]
    assert admitted(needs, of_deployment(vcpus=8)) == [True, False, True]


def test_a_key_counts_for_itself_and_for_the_deployment() -> None:
    quotas = Quotas(deployment=Limits(instances=4), key=Limits(instances=2))
    needs = [need("a")] * 3 + [need("b")] * 3 + [need()]
    assert admitted(needs, quotas) == [True, True, False, True, True, False, False]


def test_jobs_without_a_key_count_for_the_deployment_alone() -> None:
    assert admitted([need()] * 5, Quotas(key=Limits(instances=1))) == [True] * 5


@pytest.mark.parametrize(
    ("hours", "now", "fits"),
    [
        (12, NOON, True),  # until midnight
        (36, NOON, True),  # the rest is tomorrow's
        (24, NOON - timedelta(hours=1), False),
        (13, NOON - timedelta(seconds=1), False),
        (24, MIDNIGHT - timedelta(seconds=1), True),
        (12, MIDNIGHT, True),
        (13, MIDNIGHT, False),
    ],
)
def test_a_launch_promises_its_price_until_its_time_limit_or_the_days_end(
    hours: float, now: datetime, *, fits: bool
) -> None:
    assert admitted([need(hours=hours)], of_deployment(usd_per_day=12), now=now) == [fits]


def test_spent_and_promised_dollars_count_alike_and_sums_are_not_exact() -> None:
    used: dict[str | None, Usage] = {"a": Usage(spent_usd=0.1), None: Usage(promised_usd=0.2)}
    assert admitted([need(usd=0.7)], of_deployment(usd_per_day=1), used) == [True]
    assert admitted([need(usd=0.71)], of_deployment(usd_per_day=1), used) == [False]


@pytest.mark.parametrize(("unknown", "fits"), [(1, True), (2, True), (2.1, False)])
def test_an_unknown_price_counts_as_the_setting_says(unknown: float, *, fits: bool) -> None:
    quotas = Quotas(deployment=Limits(usd_per_day=2), unknown_price_usd=unknown)
    assert admitted([need(usd=None)], quotas) == [fits]


@pytest.mark.parametrize(
    ("limits", "used", "asked", "message"),
    [
        (
            {"instances": 10},
            Usage(instances=10),
            need("1f2e3d4c"),
            "API key 1f2e3d4c has 10 of 10 live instances (DOCKER_JOB_KEY_QUOTA_INSTANCES)",
        ),
        (
            {"vcpus": 8},
            Usage(),
            need("1f2e3d4c", vcpus=16),
            (
                "it needs up to 16 vCPUs, and API key 1f2e3d4c's quota is 8 "
                "(DOCKER_JOB_KEY_QUOTA_VCPUS)"
            ),
        ),
        (
            {"usd_per_day": 50},
            Usage(instances=3, spent_usd=48.1, promised_usd=1.7, promising=3),
            need("1f2e3d4c"),
            (
                "API key 1f2e3d4c's 50 USD a day are spent until 00:00 UTC (48.10 spent, 1.70 "
                "promised by 3 running instances, it may cost 1.00; "
                "DOCKER_JOB_KEY_QUOTA_USD_PER_DAY)"
            ),
        ),
        (
            {"usd_per_day": 10},
            Usage(),
            need("1f2e3d4c", hours=24),
            (
                "it may cost 12.00 USD until its time limit or 00:00 UTC, and API key 1f2e3d4c's "
                "quota is 10 a day: with a shorter timeout_seconds it promises less "
                "(DOCKER_JOB_KEY_QUOTA_USD_PER_DAY)"
            ),
        ),
        (
            {"usd_per_day": 50},
            Usage(),
            need("1f2e3d4c", usd=60),
            (
                "it costs 60.00 USD an hour, and API key 1f2e3d4c's quota is 50 a day "
                "(DOCKER_JOB_KEY_QUOTA_USD_PER_DAY)"
            ),
        ),
    ],
)
def test_a_hold_names_the_limit_what_is_used_and_the_setting(
    limits: dict[str, float], used: Usage, asked: Need, message: str
) -> None:
    quotas = Quotas(key=Limits(**limits))  # type: ignore[arg-type]
    [hold] = decide_admission([asked], {"1f2e3d4c": used}, quotas, NOON)
    assert hold is not None
    assert hold.message == message
    assert hold.until == (MIDNIGHT if "usd_per_day" in limits else NOON + RETRY)


def test_a_day_is_one_of_utc() -> None:
    assert day_of(MIDNIGHT) == (MIDNIGHT, MIDNIGHT + timedelta(days=1))
    assert day_of(NOON)[1] == MIDNIGHT


def test_submissions_are_refused_one_by_one_and_as_wholes() -> None:
    quotas = Quotas(deployment=Limits(jobs=6), key=Limits(jobs=3))
    refused = decide_refused([("a", 4), ("a", 3), ("b", 2), (None, 2), (None, 1)], 0, {}, quotas)
    assert [each is None for each in refused] == [False, True, True, False, True]


# -- settings


def test_without_settings_nothing_is_limited() -> None:
    quotas = read_quotas(Settings({"DOCKER_JOB_QUOTA_JOBS": " "}))
    assert quotas == Quotas()
    assert (quotas.limit_jobs, quotas.limit_launches) == (False, False)


def test_each_setting_is_read() -> None:
    names = ("JOBS", "INSTANCES", "VCPUS", "USD_PER_DAY")
    environ = {f"DOCKER_JOB_QUOTA_{name}": str(at) for at, name in enumerate(names, 1)}
    environ |= {f"DOCKER_JOB_KEY_QUOTA_{name}": str(at) for at, name in enumerate(names, 5)}
    environ["DOCKER_JOB_QUOTA_UNKNOWN_PRICE_USD"] = "0.5"
    assert read_quotas(Settings(environ)) == Quotas(
        deployment=Limits(jobs=1, instances=2, vcpus=3, usd_per_day=4),
        key=Limits(jobs=5, instances=6, vcpus=7, usd_per_day=8),
        unknown_price_usd=0.5,
    )


@pytest.mark.parametrize(
    ("name", "value", "trouble"),
    [
        ("QUOTA_JOBS", "0", "it must be from 1 to"),
        ("QUOTA_INSTANCES", "1.5", "it must be a whole number"),
        ("KEY_QUOTA_VCPUS", "-3", "it must be from 1 to"),
        ("KEY_QUOTA_USD_PER_DAY", "none", "it must be a number"),
        ("QUOTA_USD_PER_DAY", "0", "it must be from 0.01 to"),
        ("QUOTA_USD_PER_DAY", "nan", "it must be from 0.01 to"),
        ("QUOTA_UNKNOWN_PRICE_USD", "0", "it must be from 0.0001 to"),
    ],
)
def test_a_bad_value_names_the_setting_and_what_is_right(
    name: str, value: str, trouble: str
) -> None:
    with pytest.raises(BadSetting, match=f"DOCKER_JOB_{name} is .*{trouble}"):
        read_quotas(Settings({f"DOCKER_JOB_{name}": value}))
