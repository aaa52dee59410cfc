"""Labels named like our own tags, and AWS's, on the strict EC2: no tag of theirs, no end stopped.

`destroy.sh` waits until no instance has its tags, and backups are of volumes with theirs: what a
user calls a label may be neither. The releases before made tags of all labels.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from io import StringIO
from typing import Any

import boto3
import pytest

from deploy.account import Account
from deploy.down import Removal
from deploy.progress import Progress
from services.launcher.service import build
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.port import Instance, LaunchBatch, Offer
from shared.events.events import InstanceLaunched
from shared.runtime.service import Ports
from tests.integration.test_ec2_launcher import CONFIG, LAUNCH
from tests.integration.test_launcher import requested
from tests.support.compute.compute_adapters import batch_of, request_for
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import REGION, Ec2World
from tests.support.compute.stage import Stage

DEPLOYMENT = "test"
OWN = {
    "docker-job:deployment": "another",
    "docker-job:launch": "another",
    "docker-job:services": DEPLOYMENT,
    "docker-job:snapshots": DEPLOYMENT,
    "Name": "mine",
    "aws:cloudformation:stack-name": DEPLOYMENT,
}
OURS = {"docker-job:deployment", "docker-job:launch"}


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none")
    yield world
    await world.close()


@pytest.fixture
async def launcher(ports_of: Callable[[str], Awaitable[Ports]], world: Ec2World) -> Stage:
    return Stage(build(CONFIG, await ports_of("launcher"), world.adapter()))


@pytest.fixture
def removal(world: Ec2World) -> Removal:
    """Make the removal of the stack whose name is the deployment's."""
    account = Account(
        session=boto3.Session(),  # its endpoint and keys are the environment's
        account_id=world.cloud.cloud.account,
        region=REGION,
        partition="aws",
        caller="operator",
    )
    return Removal(account, DEPLOYMENT, Progress(StringIO()), sleep=lambda _: None)


def tag_keys(world: Ec2World, action: str) -> set[str]:
    """Return the keys of all tags that calls of this action have asked for."""
    return {
        tag["Key"]
        for call in world.cloud.control.calls(action)
        for kind in _specifications(call.params)
        for tag in kind["Tags"]
    }


def _specifications(params: dict[str, Any]) -> list[dict[str, Any]]:
    data = params.get("LaunchTemplateData") or {}
    return [*(params.get("TagSpecifications") or ()), *(data.get("TagSpecifications") or ())]


async def test_they_tag_nothing_and_destroy_ends_their_instances(
    launcher: Stage, world: Ec2World, removal: Removal
) -> None:
    await launcher.deliver(
        requested(1, labels=OWN), requested(2, tags=OWN), requested(3, tags=OWN | {"team": "data"})
    )
    await launcher.sweep(LAUNCH)
    assert len(await launcher.published(InstanceLaunched)) == 3
    keys = {key for each in world.cloud.control.instances() for key in each["tags"]}
    assert {each for each in keys if not each.startswith("aws:")} == OURS | {"team"}
    assert tag_keys(world, "CreateFleet") == OURS | {"team"}
    assert tag_keys(world, "CreateLaunchTemplate") <= OURS
    assert removal.end_jobs() == 3
    assert world.cloud.control.running() == []
    assert removal.remaining() == []


async def test_our_own_tags_win_at_the_last_step_too(world: Ec2World, removal: Removal) -> None:
    """Whatever a plan has as tags, the instance is this deployment's and found by its launch."""
    compute: Ec2Compute = world.adapter()
    request = request_for(world.api, 1)
    wrong = {"docker-job:deployment": "another", "docker-job:launch": "another"}
    plan = await compute.plan(Offer(deployment=DEPLOYMENT, api_url=request.api_url, tags=wrong))
    batch = LaunchBatch(token=batch_of(request).token, requests=(request,), plan=plan)
    [instance] = await compute.launch(batch)
    assert isinstance(instance, Instance)
    assert [each.launch_token for each in await compute.list_instances()] == [batch.token]
    assert removal.end_jobs() == 1
    assert world.cloud.control.running() == []


async def test_an_instance_with_the_tag_of_the_services_is_what_destroy_would_wait_for(
    world: Ec2World, removal: Removal
) -> None:
    """As the releases before launched it: ended by nobody, and waited for."""
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"Key": "docker-job:services", "Value": DEPLOYMENT}]
    ran = ec2.run_instances(
        ImageId=image,
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    (instance_id,) = [each["InstanceId"] for each in ran["Instances"]]
    assert removal.end_jobs() == 0
    assert removal.remaining() == [f"instance {instance_id}"]
