"""The quotas of vCPUs by family, as AWS names them."""

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from shared.compute.ec2.quotas import QUOTAS, explain, letters_of, quota_of, quota_with_code


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
