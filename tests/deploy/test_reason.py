"""The reason of a failed start, which deploy.sh prints: from the log group, or the console."""

import time
from typing import Any
from unittest.mock import Mock

import pytest

from deploy.account import Account
from deploy.place import SERVICES_TAG
from deploy.progress import Progress
from deploy.reason import LINES, last_lines
from deploy.stack import Waiting
from tests.deploy.conftest import ACCOUNT, REGION, MotoCloud

GROUP = "/docker-job/docker-job"


@pytest.fixture
def account(aws: MotoCloud) -> Account:
    session = Mock()
    session.client.side_effect = lambda service, **_: aws.client(service)
    return Account(session, ACCOUNT, REGION, "aws", "user/me")


def report(aws: MotoCloud, second: int, text: str) -> None:
    """Write a report, as the instance does."""
    logs, stream = aws.client("logs"), f"start/i-1/{second}"
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    logs.put_log_events(
        logGroupName=GROUP,
        logStreamName=stream,
        logEvents=[{"timestamp": int(time.time() * 1000), "message": text}],
    )


def test_the_newest_report_of_this_operation_is_read(aws: MotoCloud, account: Account) -> None:
    aws.client("logs").create_log_group(logGroupName=GROUP)
    report(aws, 100, "of an earlier start")
    assert last_lines(account, "docker-job", since=200) == []
    report(aws, 300, "\n".join(f"line {number}" for number in range(60)))
    report(aws, 250, "the one before")
    found = last_lines(account, "docker-job", since=200)
    assert len(found) == LINES
    assert found[-1] == "line 59"


def test_without_a_report_the_console_is_read(aws: MotoCloud, account: Account) -> None:
    tags = [{"Key": SERVICES_TAG, "Value": "docker-job"}]
    aws.client("ec2").run_instances(
        ImageId="ami-0123456789abcdef0",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    found = last_lines(account, "docker-job", since=time.time() - 60)
    assert found, "moto's console has a boot's output"
    assert last_lines(account, "docker-job", since=time.time() + 60) == []


def test_the_reason_is_read_at_the_first_failure_before_the_rollback_deletes_it() -> None:
    """The log group of a stack whose creation has failed is deleted with it."""
    steps: list[str] = []
    rounds = [
        (["CREATE_IN_PROGRESS"], "CREATE_IN_PROGRESS"),
        (["CREATE_FAILED"], "ROLLBACK_IN_PROGRESS"),
        (["DELETE_COMPLETE"], "ROLLBACK_COMPLETE"),
    ]
    cloudformation = Mock()
    seen: list[dict[str, Any]] = []

    def pages(**_: Any) -> list[dict[str, Any]]:
        statuses, _status = rounds[0]
        for status in statuses:
            event = {"EventId": str(len(seen)), "LogicalResourceId": "Services"}
            seen.insert(0, event | {"ResourceStatus": status})
            steps.append(status)
        return [{"StackEvents": list(seen)}]

    def describe(**_: Any) -> dict[str, Any]:
        _statuses, status = rounds.pop(0)
        stack = {"StackName": "docker-job", "StackId": "1", "StackStatus": status}
        return {"Stacks": [stack]}

    cloudformation.get_paginator.return_value.paginate.side_effect = pages
    cloudformation.describe_stacks.side_effect = describe
    session = Mock()
    session.client.return_value = cloudformation
    waiting = Waiting(
        Account(session, ACCOUNT, REGION, "aws", "user/me"),
        Progress(Mock(isatty=lambda: False)),
        lambda _seconds: None,
        lambda: steps.append("read"),
    )
    stack = waiting.until_settled("docker-job", None)
    assert stack is not None
    assert stack.status == "ROLLBACK_COMPLETE"
    assert steps == ["CREATE_IN_PROGRESS", "CREATE_FAILED", "read", "DELETE_COMPLETE"]
