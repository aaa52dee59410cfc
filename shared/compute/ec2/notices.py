"""The interruption queue: EventBridge's events about instances, read from SQS.

A second channel, for an instance whose agent does not report. A rule of EventBridge sends three
kinds of EC2's events into the queue (docs/ec2.md), about every instance in the account, ours or
not, at least once and in any order.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html

A queue that does not exist, that forbids the call, that is in another region, or whose KMS key may
not be used is a fault of the deployment. The codes are those of ReceiveMessage and
DeleteMessageBatch in botocore's model of SQS, in its JSON spelling (`KmsAccessDenied`) and in that
of the Query protocol, which SQS sends beside it (`KMS.AccessDeniedException`).
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from shared.compute.ec2.client import Aws
from shared.compute.ec2.error_rules import QUEUE
from shared.compute.ec2.errors import code_of, message_of
from shared.compute.port import ComputeError, Misconfigured, Notice, NoticeKind, Throttled
from shared.log import get_logger

_log = get_logger(part="notices")

WAIT_SECONDS = 5
"""Time that one call waits for a message, and a stopping service at most."""

BATCH = 10

THROTTLED = ("*RequestThrottled*", "*KmsThrottled*", "*KMS.Throttl*")
FORBIDDEN = (
    *("*AccessDenied*", "*InvalidAddress*", "*InvalidSecurity*", "*UnsupportedOperation*"),
    *("Kms*", "KMS.*"),
)
"""Codes that mean something else in a launch; `error_rules.py` has a queue that does not exist."""

KINDS: dict[str, NoticeKind] = {
    "EC2 Spot Instance Interruption Warning": "interruption",
    "EC2 Instance Rebalance Recommendation": "rebalance",
    "EC2 Instance State-change Notification": "state",
}


class InterruptionQueue:
    """One queue."""

    def __init__(self, url: str, region: str) -> None:
        self._url = url
        self._aws = Aws(_region_of(url) or region)

    async def receive(self) -> Sequence[Notice]:
        """Receive up to ten notices; each comes again unless `done` acknowledges it in time."""
        answer = await self._call(
            "ReceiveMessage", MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT_SECONDS
        )
        return [read_notice(each) for each in answer.get("Messages") or []]

    async def done(self, notices: Sequence[Notice]) -> None:
        """Acknowledge these: they do not come again. One that SQS keeps is only logged."""
        if not notices:
            return
        entries = [
            {"Id": str(place), "ReceiptHandle": each.handle} for place, each in enumerate(notices)
        ]
        answer = await self._call("DeleteMessageBatch", Entries=entries)
        # The status is 200 also where SQS has deleted some of them, or none.
        failed = answer.get("Failed") or []
        if failed:
            codes = sorted({each.get("Code") or "" for each in failed})
            text = failed[0].get("Message") or ""
            _log.warning("notices are not deleted", notices=len(failed), codes=codes, error=text)

    async def _call(self, action: str, **parameters: Any) -> dict[str, Any]:
        try:
            return await self._aws.call(action, service="sqs", QueueUrl=self._url, **parameters)
        except ComputeError as error:
            raise queue_error(error) from error.__cause__


def queue_error(error: ComputeError) -> ComputeError:
    """Return *error* of a call of SQS as what it means for the queue."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return error
    code = code_of(cause)
    text = f"{code}: {message_of(cause)}"
    if any(fnmatchcase(code, each) for each in THROTTLED):
        return Throttled(text)
    if any(fnmatchcase(code, each) for each in FORBIDDEN):
        return Misconfigured(text, change=QUEUE)
    return error


def read_notice(message: dict[str, Any]) -> Notice:
    """Read a message of the queue; one that is not about an instance has no kind."""
    handle = message["ReceiptHandle"]
    try:
        body = json.loads(message.get("Body") or "")
        detail = body["detail"]
        kind = KINDS[body["detail-type"]]
        return Notice(
            handle=handle,
            kind=kind,
            instance_id=str(detail["instance-id"]),
            noticed_at=datetime.fromisoformat(body["time"]).astimezone(UTC),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("not an event of EC2", error=f"{type(error).__name__}: {error}")
        return Notice(handle=handle, kind=None, instance_id="", noticed_at=None)


def _region_of(url: str) -> str | None:
    """Read the region of `https://sqs.<region>.amazonaws.com/…`; a test's endpoint has none."""
    parts = (urlsplit(url).hostname or "").split(".")
    return parts[1] if parts[0] == "sqs" and len(parts) > 2 else None
