"""Types that a zone does not have, and pools that rest: what a job waits for, and what fails it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import boto3
import pytest
import structlog
from msgspec.structs import replace

from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.clock import RealClock, VirtualClock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.launching import FleetLauncher
from shared.compute.ec2.list_prices import ListPrices
from shared.compute.ec2.listing import InstanceListing
from shared.compute.ec2.planner import Planner
from shared.compute.ec2.pools import CapacityPool, RestingPools
from shared.compute.ec2.prices import Prices
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import (
    Instance,
    LaunchBatch,
    LaunchRequest,
    Misconfigured,
    NoCapacity,
    Offer,
    Plan,
    Rejected,
)
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchRefused
from shared.events.requirements import Resources
from shared.runtime.service import Ports
from tests.integration.test_launcher import requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import AGENT, PROFILE, REGION, Ec2World
from tests.support.compute.stage import Stage

CONFIG = LauncherConfig(
    deployment="test", api_url="http://api", token_key="key", gather_idle_seconds=0
)
SETTINGS = Ec2Settings(instance_profile=PROFILE, max_lifetime_seconds=120)
LAUNCH = "launch_due_1"
LISTING = "DescribeInstanceTypeOfferings"
ONE_GPU = Resources(gpus=1)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", visible_after_seconds=0)
    yield world
    await world.close()


def forbid_the_listing(world: Ec2World) -> None:
    words = "You are not authorized to perform this operation."
    world.cloud.control.fail(
        LISTING, code="UnauthorizedOperation", status=403, message=words, times=None
    )


def subnets_in(world: Ec2World, *zones: str) -> tuple[str, ...]:
    shown = boto3.client("ec2", **world.cloud.client_arguments()).describe_subnets()["Subnets"]
    return tuple(each["SubnetId"] for each in shown if each["AvailabilityZone"][-1] in zones)


def in_zones(world: Ec2World, *zones: str) -> Ec2Settings:
    return replace(SETTINGS, subnets=subnets_in(world, *zones))


async def planned(world: Ec2World, resources: Resources, settings: Ec2Settings) -> Plan:
    offer = Offer(deployment="test", api_url="http://api", resources=resources)
    return await world.adapter(settings=settings).plan(offer)


def pools_of(plan: Plan) -> set[tuple[str, str]]:
    configs = plan["fleet"]["LaunchTemplateConfigs"]
    overrides = [each for config in configs for each in config["Overrides"]]
    return {(each["InstanceType"], plan["zones"][each["SubnetId"]][-1]) for each in overrides}


async def settle(stage: Stage, clock: VirtualClock, sweeps: int = 30) -> None:
    for _ in range(sweeps):
        due_at = await stage.sweep(LAUNCH)
        if due_at is None:
            return
        clock.advance(max((due_at - clock.now()).total_seconds(), 0))


async def launched_types(stage: Stage) -> list[str]:
    return [each.instance_type for each in await stage.published(InstanceLaunched)]


async def test_a_type_that_no_zone_has_fails_no_job_while_the_other_one_s_quota_is_full(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    forbid_the_listing(world)
    world.cloud.control.set_quota(0, family="g")
    stage = Stage(build(CONFIG, ports, world.adapter(settings=in_zones(world, "a", "b"))))
    named = Resources(instance_types=("g4dn.xlarge", "trn1.2xlarge"))  # trn1: in c and f alone
    await stage.deliver(requested(1, resources=named))
    await settle(stage, clock, sweeps=6)
    assert await stage.published(LaunchRefused) == []
    messages = [each.message for each in await stage.published(LaunchDelayed)]
    assert any("not supported in your requested Availability Zone" in each for each in messages)
    world.cloud.control.set_quota(4, family="g")
    await settle(stage, clock)
    assert await launched_types(stage) == ["g4dn.xlarge"]


class Parts:
    """The adapter's planner and launcher, and the pools that rest."""

    def __init__(self, settings: Ec2Settings) -> None:
        aws, clock = Aws(REGION), RealClock()
        self.resting = RestingPools(180)
        self.planner = Planner(aws, clock, settings, self.resting, "test", AGENT)
        listed = ListPrices(aws, clock, "none")
        self.launcher = FleetLauncher(
            aws,
            clock,
            self.planner,
            InstanceListing(aws, "test"),
            Prices(aws, clock, listed),
            self.resting,
        )

    async def launch(self, resources: Resources) -> object:
        offer = Offer(deployment="test", api_url="http://api", resources=resources)
        plan = await self.planner.plan(offer)
        request = LaunchRequest(
            token="t",
            deployment="test",
            job_id=1,
            attempt=1,
            max_lifetime_seconds=60,
            api_url="http://api",
            resources=resources,
        )
        batch = LaunchBatch(token=f"batch-{len(pools_of(plan))}", requests=(request,), plan=plan)
        (outcome,) = await self.launcher.launch(batch)
        return outcome


async def test_a_zone_without_the_type_fails_no_job_while_the_others_rest(world: Ec2World) -> None:
    forbid_the_listing(world)
    parts = Parts(in_zones(world, "a", "b", "e"))
    m5 = Resources(instance_types=("m5.xlarge",))
    now = RealClock().now()
    for zone in ("us-east-1a", "us-east-1b"):
        parts.resting.rest(CapacityPool("spot", "m5.xlarge", zone), now)
    outcome = await parts.launch(m5)
    assert type(outcome) is NoCapacity
    assert "not supported in your requested Availability Zone (us-east-1e)" in str(outcome)
    assert "m5.xlarge in us-east-1a, m5.xlarge in us-east-1b" in str(outcome)
    with pytest.raises(NoCapacity, match=r"m5\.xlarge in us-east-1a, m5\.xlarge in us-east-1b;"):
        await parts.launch(m5)


async def test_a_type_that_every_zone_has_refused_stays_the_job_s_own_fault(
    world: Ec2World,
) -> None:
    forbid_the_listing(world)
    parts = Parts(in_zones(world, "e"))
    m5 = Resources(instance_types=("m5.xlarge",))
    assert type(await parts.launch(m5)) is Rejected
    with pytest.raises(Rejected, match=r"EC2 refuses m5\.xlarge in the subnets' zones"):
        await parts.launch(m5)


async def test_only_pools_that_exist_are_asked_for(world: Ec2World) -> None:
    plan = await planned(world, Resources(instance_types=("m5.xlarge",)), SETTINGS)
    assert {zone for _, zone in pools_of(plan)} == {"a", "b", "c", "d", "f"}
    mixed = Resources(instance_types=("g4dn.xlarge", "trn1.2xlarge"))
    plan = await planned(world, mixed, in_zones(world, "a", "b"))
    assert pools_of(plan) == {("g4dn.xlarge", "a"), ("g4dn.xlarge", "b")}


async def test_a_larger_type_is_chosen_where_the_zones_have_no_smaller_one(
    world: Ec2World,
) -> None:
    parts = Parts(in_zones(world, "e"))
    outcome = await parts.launch(ONE_GPU)
    assert isinstance(outcome, Instance)
    assert outcome.instance_type == "p5.4xlarge"


async def test_without_the_listing_the_refusals_lead_to_the_types_that_the_zones_have(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    forbid_the_listing(world)
    stage = Stage(build(CONFIG, ports, world.adapter(settings=in_zones(world, "e"))))
    await stage.deliver(requested(1, resources=ONE_GPU))
    await settle(stage, clock)
    assert await stage.published(LaunchRefused) == []
    assert await launched_types(stage) == ["p5.4xlarge"]


@pytest.mark.parametrize(
    "resources", [Resources(vcpus=4), Resources(instance_types=("m5.large", "c5.large"))]
)
async def test_zones_without_a_type_that_fits_fail_no_job_and_the_subnets_are_named(
    ports: Ports, world: Ec2World, clock: VirtualClock, resources: Resources
) -> None:
    stage = Stage(build(CONFIG, ports, world.adapter(settings=in_zones(world, "e"))))
    await stage.deliver(requested(1, resources=resources))
    await settle(stage, clock, sweeps=3)
    assert await stage.published(LaunchRefused) == []
    (delay, *_) = await stage.published(LaunchDelayed)
    assert "us-east-1e" in delay.message
    assert "DOCKER_JOB_EC2_SUBNETS" in delay.message
    assert world.cloud.control.calls("CreateFleet") == []
    mended = Stage(build(CONFIG, ports, world.adapter(settings=in_zones(world, "a", "e"))))
    await settle(mended, clock)
    assert len(await launched_types(mended)) == 1


async def test_a_type_that_the_region_does_not_have_is_the_job_s_own_fault(
    world: Ec2World,
) -> None:
    alone = Resources(instance_types=("x8aedz.large",))
    with pytest.raises(Rejected, match=r"the region does not offer x8aedz\.large"):
        await planned(world, alone, SETTINGS)
    with pytest.raises(Misconfigured, match="other zones of the region do"):
        await planned(world, Resources(instance_types=("m5.large",)), in_zones(world, "e"))


async def test_the_published_offers_have_the_types_of_the_zones(world: Ec2World) -> None:
    here = await world.adapter(settings=in_zones(world, "e")).price_offers()
    names = {each.name for each in here.types}
    assert {"p5.4xlarge", "i4i.large"} <= names
    assert names & {"m5.large", "g4dn.xlarge", "trn1.2xlarge"} == set()
    forbid_the_listing(world)
    unknown = await world.adapter(settings=in_zones(world, "e")).price_offers()
    assert {"p5.4xlarge", "m5.large"} <= {each.name for each in unknown.types}


async def test_the_listing_is_read_once_and_again_after_a_pause_where_it_is_forbidden(
    world: Ec2World,
) -> None:
    compute = world.adapter(settings=in_zones(world, "a"))
    m5 = Offer(
        deployment="test", api_url="http://api", resources=Resources(instance_types=("m5.large",))
    )
    for _ in range(2):
        await compute.plan(m5)
    assert len(world.cloud.control.calls(LISTING)) == 1
    forbid_the_listing(world)
    compute = world.adapter(settings=in_zones(world, "a"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert (await compute.plan(m5))["partial"] == ""
    warned = [each for each in logs if each["event"].startswith("EC2 does not list")]
    assert [each["log_level"] for each in warned] == ["warning"]
    assert len(world.cloud.control.calls(LISTING)) == 2
