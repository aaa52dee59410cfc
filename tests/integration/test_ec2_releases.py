"""On the strict EC2: releases that come while instances boot, and timers from the launch."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from fake_aws import Cloud
from shared.compute.port import InstanceState
from tests.support.compute.compute_adapters import eventually, launch_one, request_for, until_state
from tests.support.compute.compute_api import FakeApi, serve
from tests.support.compute.compute_ec2 import AGENT, PROFILE, Ec2World

pytestmark = pytest.mark.anyio

OLD_USER_DATA = Path(__file__).with_name("golden") / "user_data_before_builds.sh"
"""The user data of the last release that did not ask for the agent by its hash, for 120 s."""

AMI = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
SLOW = {"pending_seconds": 600.0}
"""At the speed of the tests an instance boots for three seconds."""


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        yield api


@pytest.fixture
async def world(api: FakeApi) -> AsyncIterator[Ec2World]:
    world = Ec2World(api)
    yield world
    await world.close()


@pytest.fixture
async def slow(api: FakeApi) -> AsyncIterator[Ec2World]:
    world = Ec2World(api, **SLOW)
    yield world
    await world.close()


def console(world: Ec2World) -> str:
    """Return the output of the first instance."""
    text: str = world.cloud.control.instances()[0]["console"]
    return text


async def until_printed(world: Ec2World, text: str) -> None:
    async def printed() -> bool:
        return text in console(world)

    await eventually(printed)


def upgrade(api: FakeApi) -> None:
    """Replace the API by one of the next release, which has another agent."""
    api.other_agents.append(api.agent)
    api.agent += b"\n# of the next release\n"


def launch_old(world: Ec2World, api: FakeApi) -> str:
    """Launch an instance with the user data of the release before; return its id."""
    arguments = world.cloud.client_arguments()
    image = boto3.client("ssm", **arguments).get_parameter(Name=AMI)["Parameter"]["Value"]
    script = OLD_USER_DATA.read_text().replace("http://api.invalid", api.url)
    [instance] = boto3.client("ec2", **arguments).run_instances(
        ImageId=image,
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        UserData=script.replace("ab" * 32, AGENT),
        IamInstanceProfile={"Name": PROFILE},
        InstanceInitiatedShutdownBehavior="terminate",
    )["Instances"]
    instance_id: str = instance["InstanceId"]
    api.assigned[instance_id] = 1, 1
    return instance_id


async def test_a_release_that_changes_the_agent_ends_no_instance_that_boots(
    world: Ec2World, api: FakeApi
) -> None:
    upgrade(api)
    instance = await launch_one(world.adapter(), request_for(api, 1))  # by the launcher of before
    await api.until(lambda: api.callbacks[1])
    await until_state(world.adapter(), instance.instance_id, InstanceState.TERMINATED)
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_the_release_before_had_such_an_instance_power_itself_off(
    world: Ec2World, api: FakeApi
) -> None:
    """Covers the fault itself: the strict EC2 shows it to the user data of that release."""
    upgrade(api)
    instance_id = launch_old(world, api)
    terminated = await until_state(world.adapter(), instance_id, InstanceState.TERMINATED)
    assert terminated.state_reason == "Client.InstanceInitiatedShutdown"
    assert "the agent was altered" in console(world)
    assert api.claims[1] == []


async def test_the_user_data_of_the_release_before_still_finds_its_agent(
    world: Ec2World, api: FakeApi
) -> None:
    launch_old(world, api)
    await api.until(lambda: api.callbacks[1])
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_an_api_that_knows_no_hashes_serves_the_agent_too(
    world: Ec2World, api: FakeApi
) -> None:
    api.has_builds = False
    await launch_one(world.adapter(), request_for(api, 1))
    await api.until(lambda: api.callbacks[1])
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_an_instance_waits_for_an_api_that_is_upgraded_after_the_launcher(
    world: Ec2World, api: FakeApi
) -> None:
    api.has_builds = False
    new, api.agent = api.agent, b"PK the agent of the release before"
    await launch_one(world.adapter(), request_for(api, 1))
    await until_printed(world, hashlib.sha256(b"PK the agent of the release before").hexdigest())
    api.has_builds, api.agent = True, new
    await api.until(lambda: api.callbacks[1])
    assert api.callbacks[1] == [{"exit_code": 0}]


async def test_the_shutdown_timers_count_from_the_launch(slow: Ec2World, api: FakeApi) -> None:
    instance_id = (await launch_one(slow.adapter(), request_for(api, 1))).instance_id

    def age(cloud: Cloud) -> None:
        instance = cloud.registry.all[instance_id]
        instance.launched_at -= timedelta(seconds=70)

    slow.cloud.call(age)
    await api.until(lambda: api.claims[1])
    lines = console(slow).splitlines()
    times = [line for line in lines if line.startswith("power off in")]
    # The whole lifetime of 120 s first, in case the age cannot be read; then what is left of it,
    # set by the script and by the agent.
    assert times == ["power off in 120 s", "power off in 60 s", "power off in 60 s"]
    [armed] = [json.loads(line) for line in lines if '"event": "lifetime"' in line]
    assert 70 <= armed["age_seconds"] < 90
    assert armed["left_seconds"] == pytest.approx(120 - armed["age_seconds"], abs=1)
