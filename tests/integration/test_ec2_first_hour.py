"""The free first hour on the strict EC2: an interrupted instance is free if EC2 itself takes it."""

from collections.abc import AsyncIterator

import pytest

from fake_aws.ledger import Bill
from shared.compute.port import Instance, InstanceState
from tests.support.compute.compute_adapters import launch_one, request_for, until_state
from tests.support.compute.compute_api import FakeApi, serve
from tests.support.compute.compute_ec2 import Ec2World

pytestmark = pytest.mark.anyio

BY_EC2 = "Server.SpotInstanceTermination"
BY_ITSELF = "Client.InstanceInitiatedShutdown"
BY_US = "Client.UserInitiatedShutdown"


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        yield api


@pytest.fixture
async def world(api: FakeApi) -> AsyncIterator[Ec2World]:
    world = Ec2World(api, notice_seconds=1000.0)  # five real seconds
    yield world
    await world.close()


async def running_one(world: Ec2World, api: FakeApi) -> Instance:
    """Launch an instance, and wait until its job runs."""
    api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
    instance = await launch_one(world.adapter(), request_for(api, 1))
    await api.until(lambda: any(each.get("phase") == "running" for each in api.reports[1]))
    return instance


async def ended(world: Ec2World, instance: Instance) -> Bill:
    """Wait until EC2 shows it as terminated; return its bill."""
    await until_state(world.adapter(), instance.instance_id, InstanceState.TERMINATED)
    [bill] = world.cloud.control.ledger()
    return bill


async def test_an_agent_that_waits_for_ec2_costs_nothing(world: Ec2World, api: FakeApi) -> None:
    api.free_seconds = 3500
    instance = await running_one(world, api)
    world.cloud.control.interrupt(instance.instance_id)
    bill = await ended(world, instance)
    assert api.callbacks[1][-1]["stopped"] is True
    assert (bill.cause, bill.billed_seconds, bill.instance_usd) == (BY_EC2, 0, 0)


async def test_an_agent_that_powers_off_under_notice_is_billed(
    world: Ec2World, api: FakeApi
) -> None:
    """Covers the fault itself: agents of the release before did this."""
    instance = await running_one(world, api)
    world.cloud.control.interrupt(instance.instance_id)
    bill = await ended(world, instance)
    assert bill.cause == BY_ITSELF
    assert bill.billed_seconds > 0
    assert bill.instance_usd > 0


async def test_an_instance_that_we_end_under_notice_is_billed(
    world: Ec2World, api: FakeApi
) -> None:
    """Covers a reaper that ends it with its attempt."""
    api.free_seconds = 3500
    instance = await running_one(world, api)
    world.cloud.control.interrupt(instance.instance_id)
    await api.until(lambda: any(each.get("stopped") for each in api.callbacks[1]))
    await world.adapter().terminate([instance.instance_id])
    bill = await ended(world, instance)
    assert bill.cause == BY_US
    assert bill.billed_seconds > 0


@pytest.mark.parametrize("knows", [True, False], ids=["the API has ended it", "the agent sees it"])
async def test_an_instance_that_is_interrupted_while_it_boots_costs_nothing(
    world: Ec2World, api: FakeApi, *, knows: bool
) -> None:
    """Its attempt may be over before its agent claims, by EC2's event."""
    api.free_seconds = 3500
    instance = await launch_one(world.adapter(), request_for(api, 1))
    world.cloud.control.interrupt(instance.instance_id)
    if knows:
        api.interrupted.add(1)
    bill = await ended(world, instance)
    assert api.claims[1][-1].get("interrupted") is True
    assert api.callbacks[1] == []
    assert (bill.cause, bill.billed_seconds, bill.instance_usd) == (BY_EC2, 0, 0)


async def test_an_earlier_api_s_refusal_ends_it_at_once(world: Ec2World, api: FakeApi) -> None:
    instance = await launch_one(world.adapter(), request_for(api, 1))
    world.cloud.control.interrupt(instance.instance_id)
    api.interrupted.add(1)
    assert (await ended(world, instance)).cause == BY_ITSELF
