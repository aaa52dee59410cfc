"""The Price List API: what to ask, where, and how to read its products.

https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html
"""

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import boto3
from botocore.exceptions import UnknownRegionError

OURS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""The products that our instances are. The last leaves out Capacity Blocks; Karpenter asks so:
https://github.com/aws/karpenter-provider-aws/blob/main/pkg/providers/pricing/pricing.go
"""

PUBLIC_IPV4 = "PublicIPv4:InUseAddress"
VOLUME = "EBS:VolumeUsage.gp3"
"""How the usage types end; they begin with the region's own short name, if it has one.
https://docs.aws.amazon.com/vpc/latest/ipam/view-public-ip-insights.html
"""

MAIN_REGION = "us-east-1"
COMMERCIAL = "aws"
USD_PARTITIONS = frozenset({COMMERCIAL, "aws-us-gov"})
"""China is priced in CNY and the European Sovereign Cloud in EUR (https://aws.eu/ebs/pricing), Spot
prices too, which name no currency.
"""


def is_priced_in_usd(region: str) -> bool:
    """Return whether AWS bills this region in US dollars."""
    return _partition_of(region) in USD_PARTITIONS


def is_commercial(region: str) -> bool:
    """Return whether it is neither in China nor for governments alone."""
    return _partition_of(region) == COMMERCIAL


def is_local(zone: str, region: str) -> bool:
    """Return whether *zone* is a Local or Wavelength Zone, whose list prices are others.

    Their names begin with the region's and a hyphen, like `us-west-2-lax-1a`.
    https://docs.aws.amazon.com/local-zones/latest/ug/concepts-local-zones.html
    """
    return zone.startswith(f"{region}-")


@functools.cache
def price_list_region(region: str) -> str | None:
    """Return the region whose Price List API has the prices of *region*; None: there is none.

    Each partition has endpoints of its own, and GovCloud none. The nearest of several is asked.
    https://docs.aws.amazon.com/general/latest/gr/billing.html, as botocore's `endpoints.json`.
    """
    partition = _partition_of(region)
    if partition is None:
        return None
    offered = boto3.session.Session().get_available_regions("pricing", partition_name=partition)
    continent = region.partition("-")[0]
    near = [each for each in offered if each.startswith(f"{continent}-")]
    for choice in (region, *near, MAIN_REGION, *offered):
        if choice in offered:
            return choice
    return None


@functools.cache
def _partition_of(region: str) -> str | None:
    try:
        return str(boto3.session.Session().get_partition_for_region(region))
    except UnknownRegionError:
        return None


def price_list_query(region: str, **more: str) -> dict[str, Any]:
    """Return the parameters of GetProducts for our instances in *region*."""
    return _query("AmazonEC2", {**more, "regionCode": region, **OURS})


def public_ipv4_query(region: str) -> dict[str, Any]:
    """Return the parameters of GetProducts for public IPv4 addresses; they are of AmazonVPC."""
    return _query("AmazonVPC", {"regionCode": region, "group": "VPCPublicIPv4Address"})


def volume_query(region: str) -> dict[str, Any]:
    """Return the parameters of GetProducts for the storage of gp3 volumes, in GiB-months."""
    terms = {"regionCode": region, "productFamily": "Storage", "volumeApiName": "gp3"}
    return _query("AmazonEC2", terms)


def _query(service: str, terms: dict[str, str]) -> dict[str, Any]:
    return {
        "ServiceCode": service,
        "Filters": [
            {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()
        ],
    }


def read_price_list(products: Sequence[str]) -> dict[str, float]:
    """Read the price of each type; of several the highest, and none that is 0.

    The query asks for `OURS` alone; an emulator may answer with other products too.
    """
    return _highest(products, "instanceType")


def read_usage(products: Sequence[str], ending: str) -> float | None:
    """Read the price of the usage type with this ending; None: none is in USD."""
    found = _highest(products, "usagetype")
    return max((usd for name, usd in found.items() if name.endswith(ending)), default=None)


def _highest(products: Sequence[str], attribute: str) -> dict[str, float]:
    """Read the prices by an attribute. Those in another currency are not known."""
    found: dict[str, float] = {}
    for text in products:
        product = json.loads(text)
        attributes = product["product"]["attributes"]
        if any(attributes.get(name, value) != value for name, value in OURS.items()):
            continue
        name = attributes.get(attribute)
        for usd in _prices_of(product):
            if name and usd > found.get(name, 0.0):
                found[name] = usd
    return found


def _prices_of(product: dict[str, Any]) -> Iterator[float]:
    for offer in product["terms"].get("OnDemand", {}).values():
        for dimension in offer["priceDimensions"].values():
            if "USD" in dimension["pricePerUnit"]:
                yield float(dimension["pricePerUnit"]["USD"])
