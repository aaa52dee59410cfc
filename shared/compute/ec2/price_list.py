"""The Price List API: prices on demand.

https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html
"""

import json
from collections.abc import Sequence
from typing import Any

OURS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
"""The products that our instances are."""


def price_list_query(region: str, **more: str) -> dict[str, Any]:
    """Return the parameters of GetProducts for our instances in *region*."""
    terms = {**more, "regionCode": region, **OURS}
    return {
        "ServiceCode": "AmazonEC2",
        "Filters": [
            {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()
        ],
    }


def read_price_list(products: Sequence[str]) -> dict[str, float]:
    """Read the price of each type; of several the highest, and none that is 0."""
    found: dict[str, float] = {}
    for text in products:
        product = json.loads(text)
        name = product["product"]["attributes"]["instanceType"]
        for offer in product["terms"]["OnDemand"].values():
            for dimension in offer["priceDimensions"].values():
                usd = float(dimension["pricePerUnit"]["USD"])
                if usd > found.get(name, 0.0):
                    found[name] = usd
    return found
