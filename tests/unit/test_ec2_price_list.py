"""The Price List API: where it is asked, how its products are read; and the table in its place."""

import json

import pytest

from fake_aws.endpoints import PRICE_LIST, partition_of
from shared.compute.ec2.client import Aws
from shared.compute.ec2.price_list import (
    OURS,
    PUBLIC_IPV4,
    price_list_query,
    price_list_region,
    read_price_list,
    read_usage,
)
from shared.compute.ec2.price_table import table_price
from shared.compute.port import Rejected


@pytest.mark.parametrize(
    ("region", "asked"),
    [
        ("us-east-1", "us-east-1"),
        ("us-west-2", "us-east-1"),
        ("sa-east-1", "us-east-1"),
        ("eu-west-1", "eu-central-1"),
        ("ap-south-1", "ap-south-1"),
        ("ap-northeast-1", "ap-south-1"),
        ("cn-north-1", "cn-northwest-1"),
        ("eusc-de-east-1", "eusc-de-east-1"),
        ("us-gov-west-1", None),
        ("nowhere", None),
    ],
)
def test_the_price_list_is_asked_in_the_region_s_own_partition(
    region: str, asked: str | None
) -> None:
    assert price_list_region(region) == asked
    if asked is not None:
        assert asked in PRICE_LIST[partition_of(region)]


async def test_a_region_without_a_price_list_is_refused_before_any_call() -> None:
    with pytest.raises(Rejected, match="no Price List API for us-gov-west-1"):
        await Aws("us-gov-west-1").call(
            "GetProducts", service="pricing", **price_list_query("us-gov-west-1")
        )


def product(price: dict[str, str], **attributes: str) -> str:
    terms = {"OnDemand": {"x": {"priceDimensions": {"y": {"pricePerUnit": price}}}}}
    return json.dumps({"product": {"attributes": attributes}, "terms": terms})


def test_the_highest_price_in_usd_counts_and_none_that_is_0() -> None:
    listed = [
        product({"USD": "0.0"}, instanceType="a1.large"),
        product({"USD": "0.1"}, instanceType="b1.large"),
        product({"USD": "0.2"}, instanceType="b1.large"),
        product({"CNY": "0.7"}, instanceType="c1.large"),
        product({"USD": "0.3"}, usagetype="no type"),
        json.dumps({"product": {"attributes": {"instanceType": "d1.large"}}, "terms": {}}),
    ]
    assert read_price_list(listed) == {"b1.large": 0.2}


@pytest.mark.parametrize(
    "other",
    [
        {"operatingSystem": "Windows"},
        {"tenancy": "Dedicated"},
        {"preInstalledSw": "SQL Web"},
        {"capacitystatus": "UnusedCapacityReservation"},
        {"marketoption": "CapacityBlock"},
    ],
)
def test_products_that_were_not_asked_for_do_not_count(other: dict[str, str]) -> None:
    """An emulator may pass over the filters."""
    listed = [
        product({"USD": "9.0"}, instanceType="b1.large", **other),
        product({"USD": "0.2"}, instanceType="b1.large", **(OURS | {"tenancy": "Shared"})),
    ]
    assert read_price_list(listed) == {"b1.large": 0.2}


def test_the_price_of_a_reservation_does_not_count() -> None:
    shown = json.loads(product({"USD": "0.2"}, instanceType="b1.large"))
    upfront = {"priceDimensions": {"u": {"pricePerUnit": {"USD": "99"}}}}
    shown["terms"]["Reserved"] = {"x": upfront}
    assert read_price_list([json.dumps(shown)]) == {"b1.large": 0.2}


def test_a_usage_type_is_known_by_its_end() -> None:
    listed = [
        product({"USD": "9.0"}, usagetype="USE1-PublicIPv4:IdleAddress"),
        product({"USD": "0.005"}, usagetype="USE1-PublicIPv4:InUseAddress"),
    ]
    assert read_usage(listed, PUBLIC_IPV4) == 0.005
    assert read_usage(listed[:1], PUBLIC_IPV4) is None
    assert read_usage([product({"CNY": "0.03"}, usagetype=PUBLIC_IPV4)], PUBLIC_IPV4) is None


@pytest.mark.parametrize(
    ("instance_type", "region", "usd"),
    [
        ("m5.large", "us-east-1", 0.096),
        ("m5.4xlarge", "us-west-2", 0.768),
        ("c8i.xlarge", "us-east-1", 0.18742),
        ("c8i.96xlarge", "us-east-1", 17.99232),
        ("t3.nano", "us-east-1", 0.0052),
        ("t4g.small", "us-east-1", 0.0168),
        ("g4dn.16xlarge", "us-east-1", 4.352),
        ("c8i.large", "us-west-2", None),
        ("m5.large", "eu-west-1", None),
        ("m5.large", "us-gov-west-1", None),
        ("x9.large", "us-east-1", None),
        ("m5.odd", "us-east-1", None),
        ("", "us-east-1", None),
    ],
)
def test_the_table_has_some_prices_and_makes_none_up(
    instance_type: str, region: str, usd: float | None
) -> None:
    assert table_price(instance_type, region) == usd
