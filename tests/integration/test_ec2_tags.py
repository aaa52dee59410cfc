"""Tags on the strict EC2: what it does with them at an instance's start and after its end."""

from collections.abc import AsyncIterator

import boto3
import pytest
from botocore.exceptions import ClientError

from shared.compute.port import Instance, LaunchBatch, Offer
from tests.support.compute.compute_adapters import batch_of, eventually, request_for
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import Ec2World


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(
        FakeApi(), boot="none", terminated_tags_seconds=0.0, instance_metadata_tags=True
    )
    yield world
    await world.close()


async def launched(world: Ec2World, tags: dict[str, str]) -> Instance:
    compute = world.adapter()
    request = request_for(world.api, 1)
    offer = Offer(deployment="test", api_url=request.api_url, tags=tags)
    plan = await compute.plan(offer)
    batch = LaunchBatch(token=batch_of(request).token, requests=(request,), plan=plan)
    [answer] = await compute.launch(batch)
    assert isinstance(answer, Instance), answer
    return answer


async def test_where_the_account_shows_tags_in_the_metadata_a_cost_tag_fails_no_launch(
    world: Ec2World,
) -> None:
    instance = await launched(world, {"team": "a/b c"})
    [truth] = world.cloud.control.instances()
    assert (truth["id"], truth["tags"]["team"]) == (instance.instance_id, "a/b c")
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    image = ec2.describe_instances(InstanceIds=[instance.instance_id])
    image_id = image["Reservations"][0]["Instances"][0]["ImageId"]
    for key in ("cost center", "a/b", "_index"):
        with pytest.raises(ClientError, match="is not a valid tag key"):
            ec2.run_instances(
                ImageId=image_id,
                InstanceType="m5.large",
                MinCount=1,
                MaxCount=1,
                TagSpecifications=[
                    {"ResourceType": "instance", "Tags": [{"Key": key, "Value": "x"}]}
                ],
            )


async def test_a_terminated_instance_loses_its_tags_and_is_shown_by_its_id_alone(
    world: Ec2World,
) -> None:
    instance = await launched(world, {})
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    ec2.terminate_instances(InstanceIds=[instance.instance_id])
    tagged = [{"Name": "tag:docker-job:deployment", "Values": ["test"]}]

    async def lost() -> bool:
        return not ec2.describe_instances(Filters=tagged)["Reservations"]

    await eventually(lost)
    shown = ec2.describe_instances(InstanceIds=[instance.instance_id])
    [found] = shown["Reservations"][0]["Instances"]
    assert (found["State"]["Name"], found["Tags"]) == ("terminated", [])
