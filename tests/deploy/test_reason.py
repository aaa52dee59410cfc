"""The reason of a failed start, which deploy.sh prints: from the log group, or the console."""

import time
from typing import Any
from unittest.mock import Mock

import pytest

from deploy.account import Account
from deploy.place import SERVICES_TAG
from deploy.progress import Progress
from deploy.reason import LINES, FailedLaunches, last_lines
from deploy.stack import Waiting
from tests.deploy.conftest import ACCOUNT, REGION, MotoCloud
from tests.deploy.test_refusals import ALLOW
from tests.support.deploy.strict_moto import end_in, fail_launches

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

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


NO_ROOM = "We currently do not have sufficient t4g.small capacity. Launching EC2 instance failed."


def test_a_launch_that_auto_scaling_gives_up_is_shown_at_once_and_quoted(
    aws: MotoCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudFormation waits half an hour for a signal, and names only that none has come."""
    fail_launches(monkeypatch, NO_ROOM, NO_ROOM)
    end_in(monkeypatch, "ROLLBACK_COMPLETE")
    run = aws.deploy(*ALLOW)
    assert run.returncode == 1
    assert run.stdout.count(f"the services' instance did not launch: {NO_ROOM}\n") == 1
    assert "The stack is ROLLBACK_COMPLETE." in run.stderr
    assert f"Auto Scaling's reason: {NO_ROOM}" in run.stderr


def test_a_launch_that_succeeds_after_all_is_no_failure(
    aws: MotoCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_launches(monkeypatch, NO_ROOM)
    run = aws.deploy(*ALLOW)
    assert run.returncode == 0, run.stderr
    assert NO_ROOM in run.stdout


def test_reasons_of_earlier_launches_are_left_out(
    aws: MotoCloud, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    fail_launches(monkeypatch, NO_ROOM)
    assert FailedLaunches(account, "docker-job", time.time() + 60).look() == []
    launches = FailedLaunches(account, "docker-job", time.time() - 60)
    assert (launches.look(), launches.look()) == ([NO_ROOM], [])


def test_without_the_permission_to_look_the_wait_goes_on(account: Account) -> None:
    assert FailedLaunches(account, "no-such-stack", 0).look() == []
