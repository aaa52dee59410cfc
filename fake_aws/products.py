"""The products of the price list: instances, public addresses, volumes; in the region's currency.

Attributes are as the Price List API has them, and so are products that must not be taken for ours:
unused capacity reservations, Capacity Blocks, other operating systems, software and tenancies, idle
addresses, volumes of a local zone. What is ours has the prices of reservations beside it.
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-list-query-api.html
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fake_aws.errors import invalid
from fake_aws.moto_side import all_instance_types
from fake_aws.prices import GP3_GIB_MONTH_USD, PUBLIC_IPV4_USD, Prices

Params = dict[str, Any]
INSTANCE = "Compute Instance"
NEVER_OURS = 99.0
"""A price that shows in any sum."""

OTHERS = (
    {"capacitystatus": "UnusedCapacityReservation"},
    {"operatingSystem": "Windows"},
    {"preInstalledSw": "SQL Web"},
    {"tenancy": "Dedicated"},
)
"""What a product of the same type and region has that is not ours: its attributes instead."""

CURRENCIES = {"cn-": "CNY", "eusc-": "EUR"}
"""By the beginning of the region's name: https://aws.eu/ebs/pricing/"""


class Product(NamedTuple):
    """A product with one price on demand."""

    service: str
    family: str
    attributes: dict[str, str]
    unit: str
    price: float

    def field(self, name: str) -> str | None:
        """Return the value that a filter of GetProducts compares."""
        known = {"productFamily": self.family, "serviceCode": self.service}
        return known.get(name) or self.attributes.get(name)

    def shown(self, currency: str) -> str:
        """Return it in the form of GetProducts: JSON as text."""
        dimension = {
            "unit": self.unit,
            "pricePerUnit": {currency: f"{self.price:.10f}"},
            "beginRange": "0",
            "endRange": "Inf",
        }
        product: Params = {"attributes": self.attributes}
        if self.family:
            product["productFamily"] = self.family
        terms = {"OnDemand": {"offer": {"priceDimensions": {"rate": dimension}}}}
        if self.family == INSTANCE:
            upfront = dimension | {
                "unit": "Quantity",
                "pricePerUnit": {currency: f"{NEVER_OURS:.10f}"},
            }
            terms["Reserved"] = {"offer": {"priceDimensions": {"upfront": upfront}}}
        return json.dumps({"serviceCode": self.service, "product": product, "terms": terms})


def all_products(prices: Prices, region: str) -> list[Product]:
    """Return every product of the region."""
    return [*_instances(prices, region), *_addresses(region), *_volumes(region)]


def find_products(params: Params, everything: Iterable[Product]) -> list[Product]:
    """Return the products that pass all filters of GetProducts. Raises AwsError."""
    filters = params.get("Filters", [])
    if any(each["Type"] != "TERM_MATCH" for each in filters):
        raise invalid("This cloud's filters of GetProducts are of type TERM_MATCH.")
    return [
        product
        for product in everything
        if product.service == params["ServiceCode"]
        and all(product.field(each["Field"]) == each["Value"] for each in filters)
    ]


def currency_of(region: str) -> str:
    """Return the currency in which AWS bills the region."""
    return next((each for name, each in CURRENCIES.items() if region.startswith(name)), "USD")


def _instances(prices: Prices, region: str) -> Iterator[Product]:
    for kind in all_instance_types():
        if kind.name in prices.unlisted_types:
            continue
        ours = {
            "instanceType": kind.name,
            "regionCode": region,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",
            "usagetype": f"BoxUsage:{kind.name}",
        }
        yield Product("AmazonEC2", INSTANCE, ours, "Hrs", prices.on_demand(kind))
        for other in OTHERS:
            yield Product("AmazonEC2", INSTANCE, ours | other, "Hrs", NEVER_OURS)
        if kind.gpus:
            block = ours | {"marketoption": "CapacityBlock"}
            yield Product("AmazonEC2", INSTANCE, block, "Hrs", NEVER_OURS)


def _addresses(region: str) -> Iterator[Product]:
    for use, usd in (("InUseAddress", PUBLIC_IPV4_USD), ("IdleAddress", NEVER_OURS)):
        attributes = {
            "regionCode": region,
            "group": "VPCPublicIPv4Address",
            "usagetype": f"XXX1-PublicIPv4:{use}",
        }
        yield Product("AmazonVPC", "", attributes, "Hrs", usd)


def _volumes(region: str) -> Iterator[Product]:
    for where, usd in ((region, GP3_GIB_MONTH_USD), (f"{region}-bos-1", NEVER_OURS)):
        attributes = {
            "regionCode": where,
            "volumeApiName": "gp3",
            "usagetype": "XXX1-EBS:VolumeUsage.gp3",
        }
        yield Product("AmazonEC2", "Storage", attributes, "GB-Mo", usd)
    throughput = {
        "regionCode": region,
        "volumeApiName": "gp3",
        "usagetype": "XXX1-EBS:VolumeP-Throughput.gp3",
    }
    yield Product("AmazonEC2", "Provisioned Throughput", throughput, "GiBps-mo", NEVER_OURS)
