"""The launcher publishes what it can launch and at which price: seldom, whole, and one for all."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from services.launcher.pricing import LEASE_SECONDS, RETRY, START_SECONDS, TYPES, decide_events
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.choice import choose, wanted_by
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import ComputeError, PricedOffers, Rejected, Throttled
from shared.events.events import InstanceLaunched, OffersPriced
from shared.events.offers import OfferedType, OfferTerms
from shared.events.requirements import Resources
from shared.runtime.service import Ports
from tests.integration.test_launcher import CONFIG, LAUNCH, START, requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

PRICE = "publish_offers"
TERMS = OfferTerms(chooses=True, zones=("a",), most_types=20)


def a_type(name: str, usd: float = 0.03) -> OfferedType:
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
        spot_hourly_prices_usd={"a": usd},
    )


def many(count: int) -> PricedOffers:
    return PricedOffers(terms=TERMS, types=tuple(a_type(f"m{n}.large") for n in range(count)))


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    cloud = ScriptedCompute(clock)
    cloud.offered = many(3)
    return cloud


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def test_the_offers_are_published_at_the_start_and_after_each_interval(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    again = START + timedelta(seconds=CONFIG.offers_seconds)
    assert await stage.sweep(PRICE) == again
    assert await stage.sweep(PRICE) == again
    [first] = await stage.published(OffersPriced)
    assert (first.part, first.parts, first.priced_at) == (1, 1, START)
    assert (first.terms, first.types) == (cloud.offered.terms, cloud.offered.types)
    clock.advance(CONFIG.offers_seconds)
    cloud.offered = replace(cloud.offered, types=(a_type("m1.large", 0.05),))
    await stage.sweep(PRICE)
    [_, second] = await stage.published(OffersPriced)
    assert second.version != first.version
    assert second.types[0].spot_hourly_prices_usd == {"a": 0.05}
    assert cloud.price_calls == 2


def test_a_catalogue_is_split_into_parts_of_one_version() -> None:
    found = many(2 * TYPES + 1)
    events = decide_events(found, "v", START)
    assert [(each.part, each.parts, len(each.types)) for each in events] == [
        (1, 3, TYPES),
        (2, 3, TYPES),
        (3, 3, 1),
    ]
    assert {each.version for each in events} == {"v"}
    assert tuple(kind for each in events for kind in each.types) == found.types
    [empty] = decide_events(many(0), "v", START)
    assert (empty.part, empty.parts, empty.types) == (1, 1, ())


async def test_of_two_replicas_one_reads_the_cloud(
    ports: Ports, stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    other = Stage(build(CONFIG, ports, cloud))
    cloud.answering.clear()
    reading = asyncio.create_task(stage.sweep(PRICE))
    async with asyncio.timeout(10):
        while cloud.price_calls == 0:  # noqa: ASYNC110 - the cloud of this test sends no signal
            await asyncio.sleep(0)
    assert await other.sweep(PRICE) == START + timedelta(seconds=LEASE_SECONDS)
    cloud.answering.set()
    await reading
    assert await other.sweep(PRICE) == START + timedelta(seconds=CONFIG.offers_seconds)
    assert cloud.price_calls == 1
    clock.advance(CONFIG.offers_seconds)
    await asyncio.gather(stage.sweep(PRICE), other.sweep(PRICE))
    assert cloud.price_calls == 2


async def test_a_process_that_starts_publishes_again_unless_it_was_done_just_now(
    ports: Ports, stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.sweep(PRICE)
    await Stage(build(CONFIG, ports, cloud)).sweep(PRICE)
    assert cloud.price_calls == 1
    clock.advance(START_SECONDS)
    started = Stage(build(CONFIG, ports, cloud))
    await started.sweep(PRICE)
    assert cloud.price_calls == 2
    clock.advance(START_SECONDS)
    await started.sweep(PRICE)
    assert cloud.price_calls == 2


@pytest.mark.parametrize("error", [Throttled("slow down"), Rejected("not allowed")])
async def test_prices_that_cannot_be_read_are_read_again_later_each_time(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock, error: ComputeError
) -> None:
    cloud.price_errors.extend([error, error])
    for tries in (1, 2):
        next_at = await stage.sweep(PRICE)
        assert next_at is not None
        delay = (next_at - clock.now()).total_seconds()
        assert RETRY.delay(tries, 1) <= delay <= RETRY.delay(tries, 0)
        assert await stage.published(OffersPriced) == []
        clock.advance(delay)
    assert await stage.sweep(PRICE) == clock.now() + timedelta(seconds=CONFIG.offers_seconds)
    assert len(await stage.published(OffersPriced)) == 1


async def test_a_reader_that_died_is_followed_when_its_lease_ends(
    ports: Ports, stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.answering.clear()
    doomed = asyncio.create_task(Stage(build(CONFIG, ports, cloud)).sweep(PRICE))
    async with asyncio.timeout(10):
        while cloud.price_calls == 0:  # noqa: ASYNC110 - the cloud of this test sends no signal
            await asyncio.sleep(0)
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)
    cloud.answering.set()
    assert await stage.sweep(PRICE) == START + timedelta(seconds=LEASE_SECONDS)
    clock.advance(LEASE_SECONDS)
    await stage.sweep(PRICE)
    assert len(await stage.published(OffersPriced)) == 1


@pytest.fixture
async def market() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", price_step_seconds=0.5)
    yield world
    await world.close()


async def test_on_ec2_the_published_prices_follow_the_market_and_are_those_of_the_launch(
    ports: Ports, market: Ec2World, clock: VirtualClock
) -> None:
    settings = replace(SETTINGS, instance_types=(), prices="api")
    config = dataclasses.replace(CONFIG, deployment="test", gather_idle_seconds=0)
    stage = Stage(build(config, ports, market.adapter(settings=settings)))
    before = await offers_of(stage)
    assert before.terms.vcpus == Ec2Settings().vcpus
    kind = before.types[0]
    async with asyncio.timeout(60):
        changed = kind
        while changed == kind:
            clock.advance(CONFIG.offers_seconds)
            types = {each.name: each for each in (await offers_of(stage)).types}
            changed = types[kind.name]
    assert changed.spot_hourly_prices_usd.keys() == kind.spot_hourly_prices_usd.keys()
    assert changed.on_demand_hourly_price_usd == kind.on_demand_hourly_price_usd is not None
    await stage.deliver(requested())
    await stage.sweep(LAUNCH)
    [launched] = await stage.published(InstanceLaunched)
    chosen = choose(types, wanted_by(Resources(), before.terms), "spot", before.terms.most_types)
    assert launched.instance_type in [each.name for each in chosen]
    assert launched.zone in types[launched.instance_type].spot_hourly_prices_usd


async def offers_of(stage: Stage) -> PricedOffers:
    """Publish, and put the parts of the last version together."""
    await stage.sweep(PRICE)
    events = await stage.published(OffersPriced)
    parts = [each for each in events if each.version == events[-1].version]
    assert [each.part for each in parts] == list(range(1, parts[0].parts + 1))
    assert all(len(each.types) <= TYPES for each in parts)
    return PricedOffers(
        terms=parts[0].terms, types=tuple(kind for each in parts for kind in each.types)
    )
