"""Prices on EC2: an unknown one is None, and a failed call is repeated after a while."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.clock import VirtualClock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.list_prices import LISTED_SECONDS, RETRY, Charges, ListPrices
from shared.compute.ec2.offers import other_terms
from shared.compute.ec2.price_list import PUBLIC_IPV4, VOLUME
from shared.compute.ec2.price_table import TABLE_AS_OF
from shared.compute.ec2.prices import (
    FRESH_SECONDS,
    HOLDS,
    PRODUCTS,
    VPC_PRODUCT,
    Prices,
    read_history,
)
from shared.compute.ec2.settings import Ec2Settings, PriceSource
from shared.compute.ec2.shapes import DescribedInstance, read_instance
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    InstanceState,
    Rejected,
    Unknown,
)
from shared.events.costs import OtherPrices
from shared.events.events import Market

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JANUARY_HOURS = 31 * 24
TYPE, ADDRESS, DISK = "m9.large", "AmazonVPC", "gp3"


def product(currency: str = "USD", price: float = 0.096, **attributes: str) -> str:
    dimension = {"pricePerUnit": {currency: str(price)}}
    terms = {"OnDemand": {"x": {"priceDimensions": {"y": dimension}}}}
    return json.dumps({"product": {"attributes": attributes}, "terms": terms})


class Answering(Aws):
    """AWS with these prices; *errors* are raised first, one a call."""

    def __init__(
        self,
        *errors: Exception,
        region: str = "us-east-1",
        listed: float | None = 0.096,
        currency: str = "USD",
    ) -> None:
        super().__init__(region)
        self.errors = list(errors)
        self.listed = listed
        self.currency = currency
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.errors:
            raise self.errors.pop(0)

    async def read_all(
        self, action: str, key: str, *, service: str = "ec2", **parameters: Any
    ) -> list[Any]:
        if service == "pricing":
            return self._listed(parameters)
        assert key == "SpotPriceHistory"
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

    def _listed(self, parameters: dict[str, Any]) -> list[str]:
        asked = {each["Field"]: each["Value"] for each in parameters["Filters"]}
        if parameters["ServiceCode"] == ADDRESS:
            self._ask(ADDRESS)
            return [product(self.currency, 0.0052, usagetype=f"USE1-{PUBLIC_IPV4}")]
        if asked.get("volumeApiName") == DISK:
            self._ask(DISK)
            return [product(self.currency, 0.0832, usagetype=f"USE1-{VOLUME}")]
        if "instanceType" in asked:
            self._ask(TYPE)
            known = self.listed is not None
            return [product(self.currency, self.listed or 0.0, instanceType=TYPE)] if known else []
        self._ask("all types")
        return [product(self.currency, 0.2, instanceType="c5.large")]


def prices_of(aws: Aws, clock: VirtualClock, source: PriceSource) -> Prices:
    return Prices(aws, clock, ListPrices(aws, clock, source))


def shown(market: Market, instance_type: str = TYPE, **more: Any) -> DescribedInstance:
    made = DescribedInstance(
        instance_id="i-1",
        state=InstanceState.RUNNING,
        launch_token="t",
        launched_at=NOW,
        instance_type=instance_type,
        zone="zone-a",
        market=market,
    )
    return replace(made, **more)


async def priced(
    prices: Prices, market: Market, instance_type: str = TYPE, **more: Any
) -> Instance:
    (instance,) = await prices.price([shown(market, instance_type, **more)])
    return instance


@pytest.mark.parametrize("source", ["auto", "table", "none"])
@pytest.mark.parametrize("market", ["spot", "on-demand"])
async def test_an_unknown_price_is_none(source: PriceSource, market: Market) -> None:
    aws = Answering(*(Unknown("no answer") for _ in range(4)))
    instance = await priced(prices_of(aws, VirtualClock(NOW), source), market)
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, None)


async def test_an_unknown_spot_price_is_not_that_of_on_demand() -> None:
    aws = Answering()
    prices = prices_of(aws, VirtualClock(NOW), "api")
    await priced(prices, "on-demand")
    aws.errors = [Unknown("no answer")]
    instance = await priced(prices, "spot")
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, 0.096)


@pytest.mark.parametrize("listed", [None, 0.0])
async def test_what_the_price_list_does_not_have_is_none(listed: float | None) -> None:
    prices = prices_of(Answering(listed=listed), VirtualClock(NOW), "api")
    assert (await priced(prices, "on-demand")).hourly_price_usd is None


@pytest.mark.parametrize("market", ["spot", "on-demand"])
@pytest.mark.parametrize("error", [Unknown, Deferred, Rejected])
async def test_a_failed_call_for_prices_is_made_again_later_each_time_until_it_succeeds(
    error: Callable[[str], ComputeError], market: Market
) -> None:
    clock = VirtualClock(NOW)
    calls = 1 if market == "spot" else 3  # of the type, the address and the volume, at once
    aws = Answering(*(error("no") for _ in range(3 * calls)))
    prices = prices_of(aws, clock, "none" if market == "spot" else "api")
    for tries in range(1, 4):
        assert (await priced(prices, market)).hourly_price_usd is None
        assert len(aws.asked) == calls * tries
        clock.advance(RETRY.delay(tries, 0) / 2)
        assert (await priced(prices, market)).hourly_price_usd is None
        assert len(aws.asked) == calls * tries  # not at every launch
        clock.advance(RETRY.delay(tries, 0) / 2)
    assert (await priced(prices, market)).hourly_price_usd == (0.03 if market == "spot" else 0.096)


async def test_a_list_price_that_cannot_be_read_again_holds() -> None:
    clock = VirtualClock(NOW)
    aws = Answering()
    prices = prices_of(aws, clock, "api")
    await priced(prices, "on-demand")
    await priced(prices, "on-demand")
    assert aws.asked.count(TYPE) == 1
    aws.errors = [Unknown("no answer") for _ in range(3)]
    clock.advance(LISTED_SECONDS)
    assert (await priced(prices, "on-demand")).hourly_price_usd == 0.096
    assert aws.asked.count(TYPE) == 2


async def test_the_table_is_used_until_aws_answers_and_then_no_more() -> None:
    """A role without `pricing:GetProducts` is refused; the permission may come later."""
    clock = VirtualClock(NOW)
    denied = "AccessDeniedException: not authorized to perform: pricing:GetProducts"
    aws = Answering(*(Rejected(denied) for _ in range(4)))
    listed = ListPrices(aws, clock, "auto")
    assert await listed.read_all_types(["c5.large", TYPE]) == {"c5.large": 0.085, TYPE: None}
    assert listed.table_as_of() == TABLE_AS_OF
    assert await listed.read_all_types(["c5.large"]) == {"c5.large": 0.085}
    assert len(aws.asked) == 1
    aws.errors = []
    clock.advance(RETRY.delay(1, 0))
    assert await listed.read_all_types(["c5.large", TYPE]) == {"c5.large": 0.2, TYPE: None}
    assert listed.table_as_of() is None


@pytest.mark.parametrize(("source", "as_of"), [("table", TABLE_AS_OF), ("api", None)])
async def test_only_prices_of_the_table_have_its_date(
    source: PriceSource, as_of: str | None
) -> None:
    listed = ListPrices(Answering(Unknown("no answer")), VirtualClock(NOW), source)
    await listed.read_all_types(["c5.large"])
    assert listed.table_as_of() == as_of


async def test_an_address_and_a_volume_have_prices_of_their_own() -> None:
    prices = prices_of(Answering(), VirtualClock(NOW), "api")
    instance = await priced(prices, "spot", public_ipv4=True, volume_gib=30)
    assert instance.other_prices == OtherPrices(
        public_ipv4_hourly_usd=0.0052, volume_hourly_usd=0.0832 / JANUARY_HOURS * 30
    )
    without = await priced(prices, "spot", public_ipv4=False, volume_gib=None)
    assert without.other_prices == OtherPrices(public_ipv4_hourly_usd=0.0, volume_hourly_usd=None)
    unknown = await priced(prices, "spot", public_ipv4=None, volume_gib=0)
    assert unknown.other_prices == OtherPrices(public_ipv4_hourly_usd=None, volume_hourly_usd=0.0)


@pytest.mark.parametrize(
    ("region", "address", "volume"),
    [
        ("us-west-2", 0.005, 0.08),
        ("eu-central-1", 0.005, 0.0952),
        ("ap-east-2", 0.005, None),
        ("us-gov-west-1", None, None),
        ("cn-north-1", None, None),
    ],
)
async def test_the_table_has_prices_of_addresses_and_volumes_where_they_are_known(
    region: str, address: float | None, volume: float | None
) -> None:
    charges = await ListPrices(Aws(region), VirtualClock(NOW), "table").charges()
    assert (charges.public_ipv4_hourly_usd, charges.volume_gib_month_usd) == (address, volume)


@pytest.mark.parametrize(("region", "currency"), [("cn-north-1", "CNY"), ("eusc-de-east-1", "EUR")])
@pytest.mark.parametrize("market", ["spot", "on-demand"])
async def test_a_price_in_another_currency_is_not_known(
    region: str, currency: str, market: Market
) -> None:
    """The Spot price history does not even say that its prices are not in USD."""
    aws = Answering(region=region, currency=currency)
    prices = prices_of(aws, VirtualClock(NOW), "auto")
    instance = await priced(prices, market, public_ipv4=True, volume_gib=30)
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, None)
    assert instance.other_prices == OtherPrices()


def change(product: str, price: str, minutes: int, zone: str = "a") -> dict[str, Any]:
    return {
        "InstanceType": TYPE,
        "AvailabilityZone": zone,
        "ProductDescription": product,
        "Timestamp": NOW - timedelta(minutes=minutes),
        "SpotPrice": price,
    }


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_spot_price_of_either_product_counts(product: str) -> None:
    history = read_history([change(product, "0.03", 5), change(product, "0.02", 9)])
    assert [each.usd for each in history[TYPE, "a"]] == [0.02, 0.03]


def test_of_both_products_the_one_in_a_vpc_counts() -> None:
    rows = [change("Linux/UNIX", "0.5", 1), change(VPC_PRODUCT, "0.03", 5)]
    assert [each.usd for each in read_history(rows)[TYPE, "a"]] == [0.03]


async def test_an_unreadable_history_makes_the_price_unknown() -> None:
    class Odd(Answering):
        async def read_all(self, *given: Any, **parameters: Any) -> list[Any]:
            return [{"InstanceType": TYPE}]

    prices = prices_of(Odd(), VirtualClock(NOW), "none")
    assert (await priced(prices, "spot")).hourly_price_usd is None


async def test_a_spot_price_that_cannot_be_read_again_is_unknown_after_some_hours() -> None:
    clock = VirtualClock(NOW)
    aws = Answering()
    prices = prices_of(aws, clock, "none")
    assert (await priced(prices, "spot")).hourly_price_usd == 0.03
    aws.errors = [Unknown("no answer") for _ in range(100)]
    clock.advance(HOLDS.total_seconds())
    assert (await priced(prices, "spot")).hourly_price_usd == 0.03
    ended = NOW + timedelta(minutes=10)
    clock.advance(1)
    assert (await priced(prices, "spot")).hourly_price_usd is None
    assert (await priced(prices, "spot", terminated_at=ended)).hourly_price_usd == 0.03
    aws.errors = []
    clock.advance(RETRY.longest)
    assert (await priced(prices, "spot")).hourly_price_usd == 0.03


async def test_a_history_that_begins_after_the_launch_is_not_the_price_of_the_whole_life() -> None:
    clock = VirtualClock(NOW)
    aws = Answering()
    prices = prices_of(aws, clock, "none")
    await priced(prices, "spot")
    aws.errors = [Unknown("no answer")]
    earlier = NOW - timedelta(days=1)
    assert (await priced(prices, "spot", launched_at=earlier)).hourly_price_usd is None


async def test_a_pool_that_aws_shows_no_more_has_no_price_any_more() -> None:
    class Moving(Answering):
        zones: tuple[str, ...] = ("zone-a", "zone-b")

        async def read_all(self, *given: Any, **parameters: Any) -> list[Any]:
            return [change(PRODUCTS[0], "0.03", 60, zone) for zone in self.zones]

    clock = VirtualClock(NOW)
    aws = Moving()
    prices = prices_of(aws, clock, "none")
    assert (await priced(prices, "spot")).hourly_price_usd == 0.03
    aws.zones = ("zone-b",)
    clock.advance(FRESH_SECONDS)
    assert (await priced(prices, "spot")).hourly_price_usd is None
    assert (await priced(prices, "spot", zone="zone-b")).hourly_price_usd == 0.03


async def test_where_aws_s_clock_is_ahead_the_history_is_asked_until_now() -> None:
    class Careful(Answering):
        async def read_all(self, *given: Any, **parameters: Any) -> list[Any]:
            assert parameters["StartTime"] <= parameters["EndTime"]
            return await super().read_all(*given, **parameters)

    prices = prices_of(Careful(), VirtualClock(NOW), "none")
    ahead = NOW + timedelta(seconds=20)
    assert (await priced(prices, "spot", launched_at=ahead)).hourly_price_usd == 0.03


def test_products_that_are_not_ours_and_prices_of_0_have_no_history() -> None:
    rows = [change("Windows", "0.5", 1), change("Linux/UNIX", "0.03", 5)]
    assert [each.usd for each in read_history(rows)[TYPE, "a"]] == [0.03]
    assert read_history(rows[:1]) == {}
    assert read_history([change("Linux/UNIX", "0.000000", 5)]) == {}


@pytest.mark.parametrize("market", ["spot", "on-demand"])
async def test_with_a_licence_or_on_dedicated_hardware_the_price_of_linux_is_not_its_own(
    market: Market,
) -> None:
    prices = prices_of(Answering(), VirtualClock(NOW), "api")
    instance = await priced(prices, market, is_plain=False, public_ipv4=True)
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, None)
    assert instance.other_prices.public_ipv4_hourly_usd == 0.0052


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({}, True),
        ({"PlatformDetails": "Linux/UNIX"}, True),
        ({"PlatformDetails": "Red Hat Enterprise Linux"}, False),
        ({"PlatformDetails": "Windows"}, False),
        ({"Placement": {"AvailabilityZone": "a", "Tenancy": "dedicated"}}, False),
        ({"Placement": {"AvailabilityZone": "a", "Tenancy": "default"}}, True),
    ],
)
def test_an_instance_is_plain_by_its_platform_and_tenancy(
    fields: dict[str, Any], *, plain: bool
) -> None:
    shown = {
        "InstanceId": "i-1",
        "State": {"Name": "running"},
        "LaunchTime": NOW,
        "InstanceType": TYPE,
        "Placement": {"AvailabilityZone": "a"},
    }
    assert read_instance(shown | fields).is_plain == plain


async def test_in_a_local_zone_list_prices_are_not_known() -> None:
    prices = prices_of(Answering(region="us-west-2"), VirtualClock(NOW), "api")
    instance = await priced(
        prices, "on-demand", zone="us-west-2-lax-1a", public_ipv4=True, volume_gib=30
    )
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, None)
    assert instance.other_prices.volume_hourly_usd is None
    assert (await priced(prices, "on-demand", zone="us-west-2a")).hourly_price_usd == 0.096


async def test_one_price_of_the_table_among_aws_s_has_its_date() -> None:
    listed = ListPrices(Answering(), VirtualClock(NOW), "auto")
    assert await listed.read_all_types(["c5.large", "m5.large"]) == {
        "c5.large": 0.2,  # AWS's
        "m5.large": 0.096,
    }
    assert listed.table_as_of() == TABLE_AS_OF
    await listed.read_all_types(["c5.large"])
    assert listed.table_as_of() is None


def test_the_offers_price_an_address_only_where_the_subnet_assigns_one() -> None:
    charges = Charges(public_ipv4_hourly_usd=0.005, volume_gib_month_usd=0.08)
    terms = other_terms(charges, {"a": True, "b": False}, Ec2Settings(), NOW)
    assert terms.public_ipv4_hourly_usd == {"a": 0.005}
    assert (terms.volume_gib_hourly_usd, terms.disk_gib) == (0.08 / JANUARY_HOURS, 30)
    assert terms.gpu_disk_gib == 100
    unknown = other_terms(Charges(), {"a": True}, Ec2Settings(), NOW)
    assert (unknown.public_ipv4_hourly_usd, unknown.volume_gib_hourly_usd) == ({"a": None}, None)
