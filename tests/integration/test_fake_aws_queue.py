"""SQS on the fake AWS: a long poll blocks no other call, and returns a message at once."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.models import ec2_backends

from tests.support.compute.ec2_clouds import Strict, strict_cloud

WAIT_SECONDS = 20


@pytest.fixture
def cloud() -> Iterator[Strict]:
    with strict_cloud(event_queue="events", instance_role="jobs") as made:
        yield made


def waiting(sqs: Any, url: str, found: list[str]) -> threading.Thread:
    """Start a thread that waits for a message."""

    def wait() -> None:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=WAIT_SECONDS)
        found.extend(each["Body"] for each in answer.get("Messages", []))

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_call_beside_one_that_waits_is_answered_and_the_message_ends_the_wait(
    cloud: Strict,
) -> None:
    sqs, ssm = cloud.client("sqs"), cloud.client("ssm")
    url = sqs.create_queue(QueueName="one")["QueueUrl"]
    found: list[str] = []
    begun = time.monotonic()
    thread = waiting(cloud.client("sqs"), url, found)
    ssm.put_parameter(Name="a", Value="b", Type="String")
    assert ssm.get_parameter(Name="a")["Parameter"]["Value"] == "b"
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    thread.join()
    assert found == ["hello"]
    assert time.monotonic() - begun < WAIT_SECONDS / 2


def test_a_wait_without_a_message_ends_in_its_time(cloud: Strict) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="one")["QueueUrl"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)


def test_a_role_and_a_queue_may_be_there_from_the_start(cloud: Strict) -> None:
    iam, sqs = cloud.client("iam"), cloud.client("sqs")
    [role] = iam.get_instance_profile(InstanceProfileName="jobs")["InstanceProfile"]["Roles"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert sqs.get_queue_url(QueueName="events")["QueueUrl"].endswith("/events")


def test_the_queue_from_the_start_has_its_rule_and_gets_each_event_once(cloud: Strict) -> None:
    ec2, sqs, events = cloud.client("ec2"), cloud.client("sqs"), cloud.client("events")
    url = sqs.get_queue_url(QueueName="events")["QueueUrl"]
    given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert events.list_rule_names_by_target(TargetArn=given["QueueArn"])["RuleNames"] == ["events"]
    assert "events.amazonaws.com" in given["Policy"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    ec2.run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1)
    found: list[str] = []
    while not found or found[-1] != "running":
        for each in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5).get("Messages", []):
            found.append(json.loads(each["Body"])["detail"]["state"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    assert sorted(found) == ["pending", "running"]


def test_nothing_is_launched_from_an_image_that_is_not_available(cloud: Strict) -> None:
    ec2 = cloud.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    state = ec2_backends[cloud.thread.cloud.account]["us-east-1"].amis[image]
    state.state = "pending"
    with pytest.raises(ClientError, match=r"InvalidAMIID\.Unavailable"):
        ec2.run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1)
