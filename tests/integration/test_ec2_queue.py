"""An interruption queue that cannot be used is named by the reaper: in alerts and `/readyz`.

The queue is that of the strict EC2, whose answers boto3 reads; the reaper's clock is virtual.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
import structlog
from botocore.exceptions import ClientError
from structlog.typing import EventDict

from fake_aws import CloudSettings, CloudThread, start_cloud
from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.clock import VirtualClock
from shared.compute.ec2 import notices
from shared.compute.ec2.notices import InterruptionQueue
from shared.compute.port import Misconfigured, Notice
from shared.runtime.service import Ports
from tests.support.compute.compute_ec2 import REGION
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

RECEIVE = "receive_notices"
SETTING = "DOCKER_JOB_INTERRUPTION_QUEUE_URL"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudThread]:
    monkeypatch.setattr(notices, "WAIT_SECONDS", 0)
    with start_cloud(CloudSettings(speed=200.0)) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


@pytest.fixture
def sqs(cloud: CloudThread) -> Any:
    return boto3.client("sqs", **cloud.client_arguments())


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="interruptions")["QueueUrl"])


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
def stage(ports: Ports, url: str, clock: VirtualClock) -> Stage:
    return stage_of(ports, url, clock)


def stage_of(ports: Ports, url: str, clock: VirtualClock, **settings: Any) -> Stage:
    queue = InterruptionQueue(url, REGION)
    return Stage(build(ReaperConfig(**settings), ports, ScriptedCompute(clock), queue))


async def receive(stage: Stage) -> list[EventDict]:
    """Run the sweep; return what it logs above information."""
    with structlog.testing.capture_logs() as entries:
        await stage.sweep(RECEIVE)
    return [each for each in entries if each["log_level"] in ("warning", "error")]


async def degraded(stage: Stage) -> dict[str, str]:
    return dict((await stage.service.look()).degraded)


def test_aws_names_a_missing_queue_in_the_spelling_of_the_query_protocol(
    sqs: Any, url: str
) -> None:
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(ClientError) as error:
        sqs.receive_message(QueueUrl=url)
    assert error.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


async def test_a_queue_that_is_deleted_is_alerted_and_named_until_it_is_there_again(
    stage: Stage, sqs: Any, url: str, clock: VirtualClock
) -> None:
    assert await receive(stage) == []
    sqs.delete_queue(QueueUrl=url)
    (alert,) = await receive(stage)
    assert alert["log_level"] == "error"
    assert SETTING in alert["to_change"]
    named = (await degraded(stage))["receive"]
    assert named.startswith("the interruption queue cannot be read, so only agents report")
    assert "NonExistentQueue" in named
    assert SETTING in named
    again = []
    for _ in range(241):  # an hour, and one more
        clock.advance(15)
        again += await receive(stage)
    assert [each["log_level"] for each in again] == ["error"]
    sqs.create_queue(QueueName="interruptions")
    clock.advance(121)
    assert await receive(stage) == []
    assert await degraded(stage) == {}


@pytest.mark.parametrize(
    "code",
    [
        *("AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException", "KmsDisabled"),
        *("InvalidAddress", "InvalidSecurity", "QueueDoesNotExist"),
    ],
)
async def test_a_queue_that_may_not_be_read_names_its_setting(
    stage: Stage, cloud: CloudThread, code: str
) -> None:
    cloud.control.fail("ReceiveMessage", code=code, status=403, message="words")
    (alert,) = await receive(stage)
    assert SETTING in alert["to_change"]
    assert code in (await degraded(stage))["receive"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("RequestThrottled", 403), ("KMS.ThrottlingException", 400), ("InternalError", 500)],
)
async def test_a_call_that_may_pass_next_time_is_a_line_of_the_log(
    stage: Stage, cloud: CloudThread, code: str, status: int
) -> None:
    cloud.control.fail("ReceiveMessage", code=code, status=status)
    (line,) = await receive(stage)
    assert (line["event"], line["log_level"]) == ("cannot receive notices", "warning")
    assert await degraded(stage) == {}


async def test_notices_that_may_not_be_deleted_are_alerted(
    stage: Stage, cloud: CloudThread, sqs: Any, url: str
) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    cloud.control.fail("DeleteMessageBatch", code="AccessDenied", status=403, message="no")
    lines = await receive(stage)
    assert [each["log_level"] for each in lines] == ["warning", "error"]  # no event of EC2
    assert set(await degraded(stage)) == {"acknowledge"}


async def test_a_notice_that_sqs_keeps_is_logged_though_the_answer_is_200(url: str) -> None:
    at = datetime.now(UTC)
    notice = Notice(handle="of another queue", kind="state", instance_id="i-1", noticed_at=at)
    with structlog.testing.capture_logs() as entries:
        await InterruptionQueue(url, REGION).done([notice])
    (line,) = entries
    assert (line["event"], line["notices"]) == ("notices are not deleted", 1)
    assert line["codes"] == ["ReceiptHandleIsInvalid"]


async def test_the_deadline_of_a_call_counts_from_the_end_of_the_wait_for_a_message(
    ports: Ports, url: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "WAIT_SECONDS", 1)
    stage = stage_of(ports, url, clock, call_seconds=0.5)
    assert await receive(stage) == []


async def test_a_deleted_queue_is_the_deployments_fault_whoever_asks(sqs: Any, url: str) -> None:
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(Misconfigured, match=SETTING):
        await InterruptionQueue(url, REGION).receive()
