"""The quotas of vCPUs by family, as AWS names them, and what follows when one is used up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from shared.compute.ec2.fleet import LaunchFailure
from shared.compute.ec2.instance_types import read_instance_type
from shared.compute.ec2.pools import CapacityPool, RestingPools
from shared.compute.ec2.quota_errors import blamed_quota, explain_shortage, spent_quotas
from shared.compute.ec2.quotas import (
    QUOTAS,
    Quota,
    explain,
    letters_of,
    quota_of,
    quota_with_code,
)
from shared.compute.port import ComputeError, NoCapacity, QuotaReached, Stale

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USED_UP = "MaxSpotInstanceCountExceeded"
SIZES = [
    (read_instance_type(INSTANCE_TYPES[f"g4dn.{each}"]), "a")
    for each in ("xlarge", "2xlarge", "4xlarge")
]
M5, G4 = ((read_instance_type(INSTANCE_TYPES[each]), "a") for each in ("m5.large", "g4dn.xlarge"))


@pytest.mark.parametrize(
    ("name", "spot", "on_demand"),
    [
        ("m5.large", "L-34B43A08", "L-1216C47A"),
        ("t4g.nano", "L-34B43A08", "L-1216C47A"),
        ("im4gn.large", "L-34B43A08", "L-1216C47A"),
        ("g4dn.xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("gr6.4xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("vt1.3xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("p6-b200.48xlarge", "L-7212CCBC", "L-417A185B"),
        ("inf2.xlarge", "L-B5D1601B", "L-1945791B"),
        ("trn1.2xlarge", "L-6B0D517C", "L-2C3B7624"),
        ("dl1.24xlarge", "L-85EED4F7", "L-6E869C2A"),
        ("f2.6xlarge", "L-88CF9481", "L-74FC7D96"),
        ("x2iezn.2xlarge", "L-E3A00192", "L-7295265B"),
        ("u7i-12tb.224xlarge", None, "L-43DA4232"),
        ("hpc7a.12xlarge", None, "L-F7808C92"),
        ("mac2.metal", None, None),
        ("", None, None),
    ],
)
def test_each_family_has_its_own_quota(name: str, spot: str | None, on_demand: str | None) -> None:
    spot_quota, on_demand_quota = quota_of(name, "spot"), quota_of(name, "on-demand")
    assert (spot_quota and spot_quota.code) == spot
    assert (on_demand_quota and on_demand_quota.code) == on_demand


def test_every_type_of_aws_has_a_quota_on_each_market_where_it_is_sold() -> None:
    without = {
        (letters_of(name), market)
        for name, shown in INSTANCE_TYPES.items()
        for market in shown["SupportedUsageClasses"]
        if market in ("spot", "on-demand") and quota_of(name, market) is None
    }
    assert without == {("mac", "on-demand")}


def test_only_the_standard_families_have_any_vcpus_in_a_new_account() -> None:
    assert {each.name.split(" (")[0] for each in QUOTAS if each.default_vcpus} == {
        "All Standard",
        "Running On-Demand Standard",
    }
    assert len({each.code for each in QUOTAS}) == len(QUOTAS)


def test_a_quota_is_explained_with_its_code_and_the_way_to_raise_it() -> None:
    quota = quota_with_code("L-3819A6DF")
    assert quota is not None
    text = explain(quota, "eu-west-1")
    assert "All G and VT Spot Instance Requests" in text
    assert "--service-code ec2 --quota-code L-3819A6DF" in text
    assert "--region eu-west-1" in text
    assert quota_with_code("L-00000000") is None


def quota(instance_type: str) -> Quota:
    found = quota_of(instance_type, "spot")
    assert found is not None
    return found


def test_a_quota_that_rests_is_left_out_while_another_is_left() -> None:
    resting = RestingPools(180)
    assert resting.within_quotas([M5, G4], "spot", NOW) == [M5, G4]
    resting.spend(quota("g4dn.xlarge"), NOW)
    assert resting.within_quotas([M5, G4], "spot", NOW) == [M5]
    assert resting.within_quotas([M5, G4], "on-demand", NOW) == [M5, G4]
    assert resting.within_quotas([G4], "spot", NOW) == [G4]
    assert resting.within_quotas([], "spot", NOW) == []
    assert resting.within_quotas([M5, G4], "spot", NOW + timedelta(seconds=180)) == [M5, G4]


def test_when_all_quotas_rest_the_one_that_was_asked_first_is_asked_again() -> None:
    resting = RestingPools(180)
    resting.spend(quota("g4dn.xlarge"), NOW)
    resting.spend(quota("m5.large"), NOW + timedelta(seconds=1))
    assert resting.within_quotas([M5, G4], "spot", NOW + timedelta(seconds=2)) == [G4]
    resting.spend(quota("g4dn.xlarge"), NOW + timedelta(seconds=2))
    assert resting.within_quotas([M5, G4], "spot", NOW + timedelta(seconds=3)) == [M5]


def test_a_quota_without_room_for_a_large_type_may_have_some_for_a_smaller_one() -> None:
    resting = RestingPools(180)
    resting.spend(quota("g4dn.4xlarge"), NOW, vcpus=16)
    assert resting.within_quotas(SIZES, "spot", NOW) == SIZES[:2]
    assert resting.within_quotas([M5, *SIZES], "spot", NOW) == [M5]
    resting.spend(quota("g4dn.2xlarge"), NOW, vcpus=8)
    assert resting.within_quotas(SIZES, "spot", NOW) == SIZES[:1]
    resting.spend(quota("g4dn.xlarge"), NOW, vcpus=4)
    resting.spend(quota("g4dn.xlarge"), NOW, vcpus=16)  # larger ones show nothing new
    assert resting.within_quotas(SIZES, "spot", NOW) == SIZES[:1]  # which fits if any does
    assert resting.within_quotas(SIZES[1:], "spot", NOW) == SIZES[1:]
    assert resting.within_quotas(SIZES, "spot", NOW + timedelta(seconds=180)) == SIZES


def test_of_two_quotas_that_rest_the_one_with_room_for_a_smaller_type_is_asked() -> None:
    resting = RestingPools(180)
    resting.spend(quota("m5.large"), NOW - timedelta(seconds=9), vcpus=2)
    resting.spend(quota("g4dn.2xlarge"), NOW, vcpus=8)
    assert resting.within_quotas([M5, *SIZES], "spot", NOW) == SIZES[:1]


def plan_of(*names: str) -> dict[str, Any]:
    overrides = [{"InstanceType": each, "SubnetId": "subnet-a"} for each in names]
    configs = [{"Overrides": [each]} for each in overrides]
    zones = {"subnet-a": "zone-a"}
    return {"market": "spot", "zones": zones, "fleet": {"LaunchTemplateConfigs": configs}}


def failure(instance_type: str, code: str = USED_UP) -> LaunchFailure:
    pool = CapacityPool("spot", instance_type, "zone-a")
    return LaunchFailure(pool=pool, code=code, message="AWS's own words")


BOTH = ("m5.large", "g4dn.xlarge")


@pytest.mark.parametrize(
    ("offered", "failed", "kind", "named"),
    [
        (("m5.large",), [failure("m5.large")], QuotaReached, {"L-34B43A08"}),
        (BOTH, [failure("m5.large")], Stale, {"L-34B43A08"}),
        (BOTH, [failure("m5.large"), failure("g4dn.xlarge")], QuotaReached, {"L-34B43A08", "L-38"}),
        (("m5.large", "c5.large"), [failure("m5.large")], QuotaReached, {"L-34B43A08"}),
        (
            BOTH,
            [failure("m5.large"), failure("g4dn.xlarge", "InsufficientInstanceCapacity")],
            QuotaReached,
            {"L-34B43A08"},
        ),
        (BOTH, [], Stale, {"L-34B43A08", "L-3819A6DF"}),  # the call was refused as a whole
    ],
)
def test_a_shortage_names_its_quotas_and_another_family_is_tried(
    offered: tuple[str, ...],
    failed: list[LaunchFailure],
    kind: type[ComputeError],
    named: set[str],
) -> None:
    error = QuotaReached(f"{USED_UP}: AWS's own words")
    explained = explain_shortage(error, failed, plan_of(*offered), "eu-west-1")
    assert type(explained) is kind
    text = str(explained)
    assert text.startswith(str(error))
    assert all(each in text for each in named)
    assert text.count("--quota-code") == len(named)


def test_other_errors_are_left_as_they_are() -> None:
    for error in (NoCapacity("none"), QuotaReached("MaxFleetCountExceeded: too many fleets")):
        assert explain_shortage(error, (), plan_of(*BOTH), "eu-west-1") is error
        assert blamed_quota(error, plan_of(*BOTH)) == {}


def test_the_quotas_of_a_fleet_s_errors_are_used_up_and_no_others() -> None:
    failed = [failure("g4dn.xlarge"), failure("m5.large", "InsufficientInstanceCapacity")]
    assert {each.code for each in spent_quotas(failed, plan_of(*BOTH))} == {"L-3819A6DF"}


VCPUS = {"m5.large": 2, "g4dn.xlarge": 4, "g4dn.2xlarge": 8}
G4_SIZES = ("g4dn.xlarge", "g4dn.2xlarge")


@pytest.mark.parametrize("code", [USED_UP, "VcpuLimitExceeded", "InstanceLimitExceeded"])
def test_the_next_plan_has_smaller_types_of_a_quota_that_refused_a_larger_one(code: str) -> None:
    error = QuotaReached(f"{code}: AWS's own words")
    plan = plan_of(*G4_SIZES) | {"vcpus": VCPUS}
    larger, smaller = failure("g4dn.2xlarge", code), failure("g4dn.xlarge", code)
    left = explain_shortage(error, [larger], plan, "eu-west-1")
    assert type(left) is Stale
    assert "has no room for 8 vCPUs" in str(left)
    over = explain_shortage(error, [larger, smaller], plan, "eu-west-1")
    assert type(over) is QuotaReached
    assert "has no room for 4 vCPUs" in str(over)
    assert type(explain_shortage(error, [smaller], plan, "eu-west-1")) is QuotaReached
    as_a_whole = explain_shortage(error, (), plan, "eu-west-1")
    assert type(as_a_whole) is Stale
    assert list(blamed_quota(error, plan).values()) == [8]


def test_another_quota_beside_that_of_vcpus_keeps_its_own_words_and_remedy() -> None:
    error = QuotaReached("VolumeLimitExceeded: AWS's own words")
    error.change = "ask for more storage"
    plan = plan_of(*G4_SIZES) | {"vcpus": VCPUS}
    assert explain_shortage(error, [failure("g4dn.2xlarge")], plan, "eu-west-1") is error


def test_a_plan_of_an_earlier_release_has_no_sizes_and_no_smaller_type() -> None:
    error = QuotaReached(f"{USED_UP}: AWS's own words")
    explained = explain_shortage(error, [failure("g4dn.2xlarge")], plan_of(*G4_SIZES), "eu-west-1")
    assert type(explained) is QuotaReached
    assert "is used up" in str(explained)
