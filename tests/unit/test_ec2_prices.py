"""Prices on EC2: an unknown one is None, and a failed call is repeated after a while."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.clock import VirtualClock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.prices import LISTED_SECONDS, RETRY, Prices
from shared.compute.ec2.settings import PriceSource
from shared.compute.ec2.shapes import DescribedInstance
from shared.compute.port import ComputeError, Deferred, Instance, InstanceState, Unknown
from shared.events.events import Market

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Answering(Aws):
    """AWS with these prices; *errors* are raised first, one a call."""

    def __init__(self, *errors: Exception, listed: float | None = 0.096) -> None:
        super().__init__("us-east-1")
        self.errors = list(errors)
        self.listed = listed
        self.asked: list[str] = []

    def _ask(self, action: str) -> None:
        self.asked.append(action)
        if self.errors:
            raise self.errors.pop(0)

    async def read(self, action: str, *, service: str = "ec2", **parameters: Any) -> dict[str, Any]:
        assert (service, bool(parameters)) == ("pricing", True)
        self._ask(action)
        if self.listed is None:
            return {"PriceList": []}
        price = {"pricePerUnit": {"USD": str(self.listed)}}
        terms = {"OnDemand": {"x": {"priceDimensions": {"y": price}}}}
        product = {"attributes": {"instanceType": "m9.large"}}
        listed = msgspec.json.encode({"product": product, "terms": terms}).decode()
        return {"PriceList": [listed]}

    async def read_all(
        self, action: str, key: str, *, service: str = "ec2", **parameters: Any
    ) -> list[dict[str, Any]]:
        assert (key, service) == ("SpotPriceHistory", "ec2")
        self._ask(action)
        return [
            {
                "InstanceType": each,
                "AvailabilityZone": "zone-a",
                "Timestamp": NOW - timedelta(hours=1),
                "SpotPrice": "0.03",
            }
            for each in parameters["InstanceTypes"]
        ]


def shown(market: Market) -> DescribedInstance:
    return DescribedInstance(
        instance_id="i-1",
        state=InstanceState.RUNNING,
        launch_token="t",
        launched_at=NOW,
        instance_type="m9.large",
        zone="zone-a",
        market=market,
    )


async def priced(prices: Prices, market: Market) -> Instance:
    (instance,) = await prices.price([shown(market)])
    return instance


@pytest.mark.parametrize("source", ["table", "none"])
@pytest.mark.parametrize("market", ["spot", "on-demand"])
async def test_an_unknown_price_is_none(source: PriceSource, market: Market) -> None:
    aws = Answering(Unknown("no answer"))
    instance = await priced(Prices(aws, VirtualClock(NOW), source), market)
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, None)


async def test_an_unknown_spot_price_is_not_that_of_on_demand() -> None:
    aws = Answering()
    prices = Prices(aws, VirtualClock(NOW), "api")
    await priced(prices, "on-demand")
    aws.errors = [Unknown("no answer")]
    instance = await priced(prices, "spot")
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, 0.096)


@pytest.mark.parametrize("listed", [None, 0.0])
async def test_what_the_price_list_does_not_have_is_none(listed: float | None) -> None:
    prices = Prices(Answering(listed=listed), VirtualClock(NOW), "api")
    assert (await priced(prices, "on-demand")).hourly_price_usd is None


@pytest.mark.parametrize("market", ["spot", "on-demand"])
@pytest.mark.parametrize("error", [Unknown, Deferred])
async def test_a_failed_call_for_prices_is_made_again_later_each_time_until_it_succeeds(
    error: Callable[[str], ComputeError], market: Market
) -> None:
    clock = VirtualClock(NOW)
    aws = Answering(*(error("no") for _ in range(3)))
    source: PriceSource = "none" if market == "spot" else "api"
    prices = Prices(aws, clock, source)
    for tries in range(1, 4):
        assert (await priced(prices, market)).hourly_price_usd is None
        assert len(aws.asked) == tries
        clock.advance(RETRY.delay(tries, 0) / 2)
        assert (await priced(prices, market)).hourly_price_usd is None
        assert len(aws.asked) == tries  # not at every launch
        clock.advance(RETRY.delay(tries, 0) / 2)
    assert (await priced(prices, market)).hourly_price_usd == (0.03 if market == "spot" else 0.096)


async def test_a_list_price_that_cannot_be_read_again_holds() -> None:
    clock = VirtualClock(NOW)
    aws = Answering()
    prices = Prices(aws, clock, "api")
    await priced(prices, "on-demand")
    await priced(prices, "on-demand")
    assert len(aws.asked) == 1
    aws.errors = [Unknown("no answer")]
    clock.advance(LISTED_SECONDS)
    assert (await priced(prices, "on-demand")).hourly_price_usd == 0.096
    assert len(aws.asked) == 2
