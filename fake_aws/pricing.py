"""The calls that return prices: DescribeSpotPriceHistory, and the price list's GetProducts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fake_aws.filters import paginate, select
from fake_aws.moto_side import MotoSide, all_instance_types, instance_type
from fake_aws.prices import Prices
from fake_aws.products import Product, all_products, currency_of, find_products

Params = dict[str, Any]
LONGEST = timedelta(days=90)
FILTERS: dict[str, Callable[[Params], str | None]] = {
    "availability-zone": lambda each: each["AvailabilityZone"],
    "instance-type": lambda each: each["InstanceType"],
    "product-description": lambda each: each["ProductDescription"],
    "spot-price": lambda each: each["SpotPrice"],
}


class PriceCalls:
    """The calls that return prices."""

    def __init__(self, prices: Prices, moto: MotoSide) -> None:
        self._prices = prices
        self._moto = moto
        self._listed: tuple[Params, list[Params]] | None = None  # the last history with pages
        self._products: list[Product] = []

    def spot_history(self, params: Params) -> Params:
        """DescribeSpotPriceHistory: each change in the period, and the price at its start."""
        asked = {name: value for name, value in params.items() if name != "NextToken"}
        if "NextToken" not in params or self._listed is None or self._listed[0] != asked:
            self._listed = asked, self._history(params)
        size = {"MaxResults": params.get("MaxResults", 1000)}
        page, token = paginate(self._listed[1], params | size)
        return {"SpotPriceHistory": page, "NextToken": token or ""}

    def _history(self, params: Params) -> list[Params]:
        now = datetime.now(UTC)
        until = min(_aware(params.get("EndTime"), now), now)
        since = max(min(_aware(params.get("StartTime"), now - LONGEST), until), now - LONGEST)
        names = params.get("InstanceTypes") or [each.name for each in all_instance_types()]
        zone = params.get("AvailabilityZone")
        zones = [zone] if zone else [each.zone for each in self._moto.default_subnets()]
        product = self._prices.spot_product
        if product not in params.get("ProductDescriptions", [product]):
            return []
        offered = {each: self._moto.types_in(each) for each in zones}
        found = [
            {
                "AvailabilityZone": each,
                "InstanceType": kind.name,
                "ProductDescription": product,
                "SpotPrice": f"{price:.6f}",
                "Timestamp": at,
            }
            for kind in map(instance_type, names)
            for each in zones
            if kind.name in offered[each]
            for at, price in self._prices.changes(kind, each, since, until)
        ]
        found = select(found, params, FILTERS)
        found.sort(key=lambda each: each["Timestamp"], reverse=True)
        return found

    def products(self, params: Params) -> Params:
        """GetProducts: the products that pass the filters, in pages of a hundred at most."""
        region = self._moto.region
        self._products = self._products or all_products(self._prices, region)
        found = find_products(params, self._products) if self._prices.is_listed else []
        size = {"MaxResults": params.get("MaxResults", 100)}
        page, token = paginate(found, params | size, most=100)
        products = [each.shown(currency_of(region)) for each in page]
        return {"FormatVersion": "aws_v1", "PriceList": products} | (
            {"NextToken": token} if token else {}
        )


def _aware(given: datetime | None, otherwise: datetime) -> datetime:
    """Return *given* in UTC, since moto's parser yields naive times; *otherwise* for None."""
    return otherwise if given is None else given.replace(tzinfo=UTC)
