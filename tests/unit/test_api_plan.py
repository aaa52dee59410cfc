"""The plan of a job: which offers, in which order, from when, at which cost."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.jobs.model import JobRules
from services.api.offers.decisions import MOST_CHOICES, NO_PRICES, decide_plan
from services.api.offers.model import JobPlan, KnownOffers, PlanRequest, RecentStart
from services.api.offers.request import read_plan
from services.api.submission.request import BadRequest, Bounds
from shared.events.costs import OtherTerms
from shared.events.offers import OfferedType, OfferTerms

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = JobRules(max_lifetime_seconds=86_400)
BOUNDS = Bounds(default_timezone="UTC", max_lifetime_seconds=86_400)
TERMS = OfferTerms(
    chooses=True,
    zones=("a", "b"),
    most_types=20,
    vcpus=2,
    memory_mib=4096,
    minimum_billed_seconds=60,
    start_seconds=90,
)


def a_type(name: str, spot: dict[str, float | None], on_demand: float | None) -> OfferedType:
    return OfferedType(
        name=name,
        vcpus=2,
        memory_mib=8192,
        gpus=0,
        architectures=("x86_64",),
        markets=("on-demand", "spot"),
        current=True,
        burstable=False,
        bare_metal=False,
        on_demand_hourly_price_usd=on_demand,
        spot_hourly_prices_usd=spot,
    )


C7 = a_type("c7i.large", {"a": 0.04, "b": 0.03}, 0.09)
M7 = a_type("m7i.large", {"a": 0.035}, 0.1)
KNOWN = KnownOffers(priced_at=NOW, terms=TERMS, types=(C7, M7))


def asked(**fields: Any) -> PlanRequest:
    return read_plan({"docker_image": "alpine", "scheduled_for": "now", **fields}, NOW, BOUNDS)


def planned(known: KnownOffers | None = KNOWN, *recent: RecentStart, **fields: Any) -> JobPlan:
    return decide_plan(asked(**fields), known, recent, RULES)


def order(plan: JobPlan) -> list[tuple[str, str, str]]:
    return [(each.instance_type, each.zone, each.market) for each in plan.choices]


def test_the_cheapest_pool_comes_first() -> None:
    plan = planned()
    assert order(plan) == [
        ("c7i.large", "b", "spot"),
        ("m7i.large", "a", "spot"),
        ("c7i.large", "a", "spot"),
    ]
    assert [each.place for each in plan.choices] == [1, 2, 3]
    assert (plan.message, plan.prices_as_of, plan.capacity) == (None, NOW, "spot")
    first = plan.choices[0]
    assert (first.hourly_price_usd, first.on_demand_hourly_price_usd) == (0.03, 0.09)
    assert (first.vcpus, first.memory_mib, first.gpus) == (2, 8192, 0)
    assert first.architecture == "x86_64"


def test_on_demand_comes_behind_spot_or_alone() -> None:
    both = order(planned(capacity="spot_then_on_demand"))
    assert [market for _, _, market in both] == ["spot"] * 3 + ["on-demand"] * 3
    assert order(planned(capacity="on_demand")) == both[3:]
    assert both[3:] == [
        ("c7i.large", "a", "on-demand"),
        ("c7i.large", "b", "on-demand"),
        ("m7i.large", "a", "on-demand"),
    ]


def test_there_are_never_more_than_fifty_and_some_are_on_demand() -> None:
    zones = {f"zone-{number}": 0.01 * number for number in range(60)}
    many = replace(KNOWN, types=(replace(C7, spot_hourly_prices_usd=zones),))
    assert len(planned(many).choices) == MOST_CHOICES
    plan = planned(many, capacity="spot_then_on_demand")
    assert len(plan.choices) == MOST_CHOICES
    assert [each.market for each in plan.choices].count("on-demand") == 10


@pytest.mark.parametrize(
    ("fields", "seconds", "source"),
    [
        ({"expected_seconds": 600, "timeout_seconds": 900}, 600, "expected_seconds"),
        ({"timeout_seconds": 900}, 900, "timeout_seconds"),
        ({"expected_seconds": None}, 86_400, "max_lifetime_seconds"),
    ],
)
def test_the_expected_time_is_what_is_given_or_a_limit(
    fields: dict[str, Any], seconds: int, source: str
) -> None:
    plan = planned(**fields)
    assert (plan.expected_seconds, plan.expected_from) == (seconds, source)
    billed = seconds + 90  # the instance boots for a while
    assert plan.cost_usd == plan.choices[0].cost_usd == round(0.03 * billed / 3600, 6)
    assert plan.on_demand_cost_usd == round(0.09 * billed / 3600, 6)


def test_no_less_is_billed_than_the_cloud_s_minimum() -> None:
    quick = replace(KNOWN, terms=replace(TERMS, start_seconds=1))
    assert planned(quick, expected_seconds=1).cost_usd == round(0.03 * 60 / 3600, 6)
    free = replace(quick, terms=replace(quick.terms, minimum_billed_seconds=0))
    assert planned(free, expected_seconds=1).cost_usd == round(0.03 * 2 / 3600, 6)


def test_the_likely_start_is_the_median_of_recent_ones() -> None:
    recent = [
        RecentStart(wait_seconds=wait, boot_seconds=boot)
        for wait, boot in ((40, 30), (50, None), (600, 34))
    ]
    plan = planned(KNOWN, *recent, scheduled_for="+1h", expected_seconds=68)
    assert plan.likely_start_seconds == 50
    assert plan.likely_start_from == "recent_jobs"
    assert plan.likely_start_at == NOW + timedelta(hours=1, seconds=50)
    assert plan.cost_usd == round(0.03 * 100 / 3600, 6)


def test_without_recent_jobs_the_start_is_the_adapter_s_usual_one() -> None:
    plan = planned()
    assert (plan.likely_start_seconds, plan.likely_start_from) == (90, "default")
    assert plan.likely_start_at == NOW + timedelta(seconds=90)


def test_a_job_that_nothing_fits_gets_the_reason() -> None:
    plan = planned(resources={"vcpus": 500})
    assert plan.message == (
        "no instance type fits: no instance type has 500 vCPUs, 1 MiB of memory and 0 GPUs for "
        "x86_64"
    )
    assert (plan.choices, plan.cost_usd, plan.on_demand_cost_usd) == ((), None, None)
    assert (plan.likely_start_at, plan.likely_start_seconds) == (None, None)
    named = planned(resources={"instance_types": ["t9.nano"]})
    assert named.message == (
        "no instance type fits: unknown instance types, or none of the deployment's zones: t9.nano"
    )


def test_named_types_that_the_zones_do_not_have_are_left_out_as_in_the_launch() -> None:
    plan = planned(resources={"instance_types": ["trn1.2xlarge", KNOWN.types[0].name]})
    assert {each.instance_type for each in plan.choices} == {KNOWN.types[0].name}
    assert plan.message is None


def test_before_any_prices_the_plan_says_so() -> None:
    plan = planned(None)
    assert (plan.message, plan.choices, plan.prices_as_of) == (NO_PRICES, (), None)
    assert (plan.cost_usd, plan.likely_start_at) == (None, None)
    recent = RecentStart(wait_seconds=4, boot_seconds=1)
    assert planned(None, recent).likely_start_seconds == 4


def test_an_unknown_price_is_null_and_comes_last() -> None:
    unknown = replace(M7, spot_hourly_prices_usd={"a": None}, on_demand_hourly_price_usd=None)
    plan = planned(replace(KNOWN, types=(unknown, C7)))
    assert order(plan)[-1] == ("m7i.large", "a", "spot")
    assert (plan.choices[-1].cost_usd, plan.choices[-1].hourly_price_usd) == (None, None)
    alone = planned(replace(KNOWN, types=(unknown,)))
    assert (alone.cost_usd, alone.on_demand_cost_usd) == (None, None)


def test_what_costs_more_than_the_deployment_pays_is_left_out() -> None:
    dear = replace(KNOWN, terms=replace(TERMS, max_price_usd=0.032))
    assert order(planned(dear)) == [("c7i.large", "b", "spot")]
    dearer = replace(KNOWN, terms=replace(TERMS, max_price_usd=0.01))
    assert planned(dearer).message == (
        "no instance type fits: the Spot price of c7i.large, m7i.large is above the deployment's "
        "0.01 USD an hour"
    )
    both = planned(dearer, capacity="spot_then_on_demand")
    assert {each.market for each in both.choices} == {"on-demand"}


def test_a_type_without_spot_is_offered_on_demand_in_every_zone() -> None:
    only = replace(C7, markets=("on-demand",), spot_hourly_prices_usd={})
    known = replace(KNOWN, types=(only,))
    named = {"instance_types": ["c7i.large"]}
    plan = planned(known, resources=named, capacity="on_demand")
    assert [each.zone for each in plan.choices] == ["a", "b"]
    assert planned(known, resources=named).message == (
        "no instance type fits: not sold on Spot: c7i.large; name other types, or `capacity`: "
        "`on_demand`"
    )


def test_what_the_launcher_would_refuse_on_spot_is_not_planned_on_demand() -> None:
    without_spot = replace(C7, markets=("on-demand",), spot_hourly_prices_usd={})
    plan = planned(replace(KNOWN, types=(without_spot,)), capacity="spot_then_on_demand")
    assert plan.choices == ()
    assert str(plan.message).startswith("no instance type fits: no instance type has 2 vCPUs")


def test_what_is_no_longer_offered_on_spot_alone_is_planned_on_demand() -> None:
    known = replace(KNOWN, types=(replace(C7, spot_hourly_prices_usd={}),))
    plan = planned(known, capacity="spot_then_on_demand")
    assert [(each.zone, each.market) for each in plan.choices] == [
        ("a", "on-demand"),
        ("b", "on-demand"),
    ]


def test_the_deployment_s_own_types_are_those_of_a_job_that_says_nothing() -> None:
    ours = replace(KNOWN, terms=replace(TERMS, instance_types=("m7i.large",)))
    assert {name for name, _, _ in order(planned(ours))} == {"m7i.large"}
    assert len(planned(ours, resources={"vcpus": 2}).choices) == 3


def test_where_the_cloud_does_not_choose_each_offer_takes_any_job() -> None:
    one = replace(C7, name="process", spot_hourly_prices_usd={"local": 0.0})
    known = replace(
        KNOWN, types=(one,), terms=OfferTerms(chooses=False, zones=("local",), start_seconds=2)
    )
    plan = planned(known, resources={"vcpus": 500, "gpus": 8})
    assert order(plan) == [("process", "local", "spot")]
    assert plan.cost_usd == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"expected_seconds": 0}, "expected_seconds must be a whole number from 1 to 86400"),
        ({"expected_seconds": 86_401}, "expected_seconds must be a whole number from 1 to 86400"),
        ({"expected_seconds": "9"}, "expected_seconds must be a whole number from 1 to 86400"),
        ({"expected_seconds": True}, "expected_seconds must be a whole number from 1 to 86400"),
        ({"docker_image": ""}, "docker_image field cannot be empty"),
    ],
)
def test_what_is_wrong_is_named_as_for_schedule(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        asked(**fields)
    assert str(refusal.value) == message


def test_an_unknown_field_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(BadRequest) as refusal:
        asked(expected_minutes=1)
    assert str(refusal.value).startswith("unknown field 'expected_minutes': the fields are ")
    assert str(refusal.value).endswith(", expected_seconds")


OTHER = OtherTerms(public_ipv4_hourly_usd={"b": 0.005}, volume_gib_hourly_usd=0.0001, disk_gib=30)


def with_others(**changes: Any) -> KnownOffers:
    return replace(KNOWN, terms=replace(TERMS, other=replace(OTHER, **changes)))


def test_the_cost_has_the_address_and_the_volume() -> None:
    """Zone a assigns no address."""
    known = with_others()
    plan = planned(known, expected_seconds=3510)  # with 90 s to boot: an hour
    costs = {(each.instance_type, each.zone): each.cost_usd for each in plan.choices}
    assert costs == {
        ("c7i.large", "b"): 0.038,
        ("c7i.large", "a"): 0.043,
        ("m7i.large", "a"): 0.038,
    }
    assert (plan.cost_usd, plan.on_demand_cost_usd) == (0.038, 0.098)
    big = planned(known, expected_seconds=3510, resources={"disk_gib": 100})
    assert big.cost_usd == 0.045


@pytest.mark.parametrize(
    ("gpu_disk_gib", "asked_gib", "cost"), [(100, None, 0.045), (0, None, 0.038), (100, 50, 0.04)]
)
def test_a_type_with_gpus_has_the_volume_of_its_launch(
    gpu_disk_gib: int, asked_gib: int | None, cost: float
) -> None:
    known = with_others(gpu_disk_gib=gpu_disk_gib)
    known = replace(known, types=tuple(replace(each, gpus=1) for each in known.types))
    wanted = {"gpus": 1} | ({"disk_gib": asked_gib} if asked_gib else {})
    plan = planned(known, expected_seconds=3510, resources=wanted)
    assert plan.choices[0].cost_usd == cost


@pytest.mark.parametrize(
    "changes", [{"volume_gib_hourly_usd": None}, {"public_ipv4_hourly_usd": {"b": None}}]
)
def test_an_unknown_price_of_address_or_volume_makes_the_cost_unknown(
    changes: dict[str, Any],
) -> None:
    plan = planned(with_others(**changes), expected_seconds=3510)
    assert (plan.cost_usd, plan.on_demand_cost_usd) == (None, None)


def test_prices_of_the_launcher_s_table_have_its_date() -> None:
    assert planned().list_prices_as_of is None
    tabled = replace(KNOWN, terms=replace(TERMS, listed_as_of="2026-07-20"))
    assert planned(tabled).list_prices_as_of == "2026-07-20"
