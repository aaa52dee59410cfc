"""EventBridge on the fake AWS: patterns as it matches them, queues that it may send to."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fake_aws.deliveries import queues_for
from tests.support.compute.ec2_clouds import Strict, strict_cloud

EVENT = {
    "version": "0",
    "id": "1",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2026-01-01T00:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-1"],
    "detail": {"instance-id": "i-1", "state": "terminated"},
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Strict]:
    with strict_cloud(event_queue="notices") as made:
        yield made


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ({"source": ["aws.ec2"]}, True),
        ({"source": ["aws.s3"]}, False),
        ({"source": [{"prefix": "aws."}]}, True),
        ({"detail-type": [{"anything-but": ["EC2 Instance State-change Notification"]}]}, False),
        ({"detail-type": [{"anything-but": "other"}]}, True),
        ({"detail": {"state": ["stopped", "terminated"]}}, True),
        ({"detail": {"state": ["running"]}}, False),
        ({"detail": {"instance-action": [{"exists": False}]}}, True),
        ({"detail": {"instance-action": ["terminate"]}}, False),
        ({"resources": [{"prefix": "arn:aws:ec2:us-east-1:"}]}, True),
    ],
)
def test_a_pattern_is_tested_on_an_event(
    cloud: Strict, pattern: dict[str, Any], *, matches: bool
) -> None:
    given = {"EventPattern": json.dumps(pattern), "Event": json.dumps(EVENT)}
    assert cloud.client("events").test_event_pattern(**given)["Result"] is matches


@pytest.mark.parametrize(
    ("pattern", "event", "code"),
    [
        ("{", json.dumps(EVENT), "InvalidEventPatternException"),
        ("{}", "{}", "ValidationException"),
        ("{}", "no JSON", "ValidationException"),
    ],
)
def test_what_is_no_pattern_or_no_event_is_refused(
    cloud: Strict, pattern: str, event: str, code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        cloud.client("events").test_event_pattern(EventPattern=pattern, Event=event)
    assert caught.value.response["Error"]["Code"] == code


def statement(queue: str, **changes: Any) -> dict[str, Any]:
    whole = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
    }
    return {**whole, **changes}


def receivers(cloud: Strict, *statements: dict[str, Any], key: str = "") -> list[str]:
    """Return the queues that get the event under this policy of the queue."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="notices")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    given = [statement(arn["Attributes"]["QueueArn"], **each) for each in statements]
    policy = json.dumps({"Version": "2012-10-17", "Statement": given})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy, "KmsMasterKeyId": key})
    number, region = arn["Attributes"]["QueueArn"].split(":")[4], "us-east-1"
    return queues_for(number, region, EVENT)


def when(operator: str, key: str, value: str) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


DENY = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*"}


@pytest.mark.parametrize(
    ("statements", "sent"),
    [
        ([{}], True),
        ([when("ArnLike", "aws:SourceArn", "arn:aws:events:us-east-1:*:rule/notices")], True),
        ([when("ArnEquals", "aws:SourceArn", "arn:aws:events:us-east-1:1:rule/other")], False),
        ([when("StringEquals", "aws:SourceAccount", "111122223333")], False),
        ([{"Action": "sqs:ReceiveMessage"}], False),
        ([{}, DENY], False),
        ([{}, {**DENY, **when("Bool", "aws:SecureTransport", "false")}], True),
        # The name alone is no permission.
        ([{"Effect": "Deny"}], False),
    ],
)
def test_a_notice_arrives_only_where_the_queues_policy_lets_it_in(
    cloud: Strict, statements: list[dict[str, Any]], *, sent: bool
) -> None:
    assert receivers(cloud, *statements) == (["notices"] if sent else [])


def test_a_notice_arrives_only_where_the_queues_key_lets_it_in(cloud: Strict) -> None:
    kms = cloud.client("kms")
    use = {"Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"}
    open_policy = json.dumps({"Version": "2012-10-17", "Statement": [statement("*", **use)]})
    closed = kms.create_key()["KeyMetadata"]["KeyId"]
    ours = kms.create_key(Policy=open_policy)["KeyMetadata"]
    kms.create_alias(AliasName="alias/ours", TargetKeyId=ours["KeyId"])
    assert receivers(cloud, {}, key="alias/aws/sqs") == []
    assert receivers(cloud, {}, key=closed) == []
    assert receivers(cloud, {}, key="alias/missing") == []
    for key in (ours["KeyId"], ours["Arn"], "alias/ours"):
        assert receivers(cloud, {}, key=key) == ["notices"]
