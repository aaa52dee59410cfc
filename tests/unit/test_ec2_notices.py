"""EventBridge's events about instances, in the shapes of AWS's documents.

Each document below is the example of one page of the EC2 User Guide, with the values of an account:
- spot-instance-termination-notices.html (the ARN of a warning may name a zone and no account)
- rebalance-recommendations.html
- monitoring-instance-state-changes.html
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.compute.ec2.notices import read_notice

INSTANCE = "i-1234567890abcdef0"
EVENT: dict[str, Any] = {
    "version": "0",
    "id": "12345678-1234-1234-1234-123456789012",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2026-11-11T21:29:54Z",
    "region": "us-east-2",
}
WARNING = EVENT | {
    "detail-type": "EC2 Spot Instance Interruption Warning",
    "resources": [f"arn:aws:ec2:us-east-2a:instance/{INSTANCE}"],
    "detail": {"instance-id": INSTANCE, "instance-action": "terminate"},
}
REBALANCE = EVENT | {
    "detail-type": "EC2 Instance Rebalance Recommendation",
    "resources": [f"arn:aws:ec2:us-east-2:123456789012:instance/{INSTANCE}"],
    "detail": {"instance-id": INSTANCE},
}
STATE = EVENT | {
    "detail-type": "EC2 Instance State-change Notification",
    "resources": [f"arn:aws:ec2:us-east-2:123456789012:instance/{INSTANCE}"],
    "detail": {"instance-id": INSTANCE, "state": "shutting-down"},
}
KINDS = [(WARNING, "interruption"), (REBALANCE, "rebalance"), (STATE, "state")]


def message(body: object) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"MessageId": "m", "ReceiptHandle": "h", "Body": text}


@pytest.mark.parametrize(("event", "kind"), KINDS)
def test_each_documented_event_is_read(event: dict[str, Any], kind: str) -> None:
    notice = read_notice(message(event))
    assert (notice.kind, notice.instance_id) == (kind, INSTANCE)
    assert notice.noticed_at == datetime(2026, 11, 11, 21, 29, 54, tzinfo=UTC)
    assert notice.handle == "h"


@pytest.mark.parametrize(("event", "kind"), KINDS)
def test_fields_unknown_to_us_change_nothing(event: dict[str, Any], kind: str) -> None:
    detail = event["detail"] | {"instance-termination-time": "soon", "azId": ["use2-az1"], "n": 1}
    newer = event | {"detail": detail, "replay-name": "r", "trace-header": None, "version": "9"}
    assert read_notice(message(newer)) == read_notice(message(event))
    assert read_notice(message(newer)).kind == kind


@pytest.mark.parametrize("action", ["stop", "hibernate", "a later action"])
def test_an_interruption_of_any_action_is_one(action: str) -> None:
    detail = {"instance-id": INSTANCE, "instance-action": action}
    assert read_notice(message(WARNING | {"detail": detail})).kind == "interruption"


@pytest.mark.parametrize(
    "state", ["pending", "running", "stopping", "stopped", "terminated", "a later state"]
)
def test_a_change_to_any_state_is_one(state: str) -> None:
    detail = {"instance-id": INSTANCE, "state": state}
    assert read_notice(message(STATE | {"detail": detail})).kind == "state"


RESERVATION = EVENT | {
    "detail-type": "EC2 Interruptible Capacity Reservation Instance Interruption Warning",
    "resources": f"arn:aws:ec2:us-east-2:123456789012:instance/{INSTANCE}",
    "detail": {"instance-id": INSTANCE, "instance-action": "terminate"},
}
OTHERS: list[object] = [
    RESERVATION,
    {**EVENT, "detail-type": "EC2 Fleet Instance Change", "detail": {"sub-type": "launched"}},
    {**WARNING, "detail": None},
    {**WARNING, "detail": {"instance_id": INSTANCE}},
    {**WARNING, "time": "yesterday"},
    {**WARNING, "time": None},
    {"Records": [{"eventSource": "aws:s3"}]},
    {"Service": "Amazon S3", "Event": "s3:TestEvent"},
    [],
    "",
    "no JSON",
]


@pytest.mark.parametrize("body", OTHERS, ids=range(len(OTHERS)))
def test_whatever_else_arrives_is_acknowledged_and_changes_nothing(body: object) -> None:
    notice = read_notice(message(body))
    assert notice.kind is None
    assert notice.handle == "h"
