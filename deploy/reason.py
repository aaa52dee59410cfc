"""The reason of a failed start: of the launch, or the last lines that the instance has logged.

Auto Scaling launches the services' instance, and tries again for as long as the stack waits, half
an hour. Its activities have the reason, which CloudFormation does not pass on
(https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeScalingActivities.html).

A stack whose creation failed is rolled back, and its log group is deleted with it. So the lines are
read at the first failed event, while they exist; otherwise from the instance's console, which EC2
keeps for an hour after its end
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.account import Account
from deploy.place import SERVICES_TAG

LINES = 25
STARTS = "start/"
FAILED = ("Failed", "Cancelled")
"""The status of a launch that has failed: "If an attempt to launch instances failed, the StatusCode
value is Failed or Cancelled and the StatusMessage […] indicates the cause"."""


@dataclass
class FailedLaunches:
    """The reasons of launches that Auto Scaling gave up after *since*, seconds since the epoch."""

    account: Account
    stack: str
    since: float
    reasons: list[str] = field(default_factory=list)
    """Each once, the newest last."""
    _group: str = ""

    def look(self) -> list[str]:
        """Return the reasons that are new."""
        try:
            found = self._activities()
        except (BotoCoreError, ClientError):
            return []  # not allowed, or no such group yet: the stack's own reason is printed anyway
        new = [
            reason
            for each in sorted(found, key=_began)
            if each["StatusCode"] in FAILED and _began(each).timestamp() >= self.since
            if (reason := " ".join(str(each.get("StatusMessage") or "").split()))
            if reason not in self.reasons
        ]
        self.reasons += dict.fromkeys(new)
        return list(dict.fromkeys(new))

    def _activities(self) -> list[dict[str, Any]]:
        scaling = self.account.client("autoscaling")
        if not self._group:
            self._group = next(iter(groups(scaling, self.stack)), "")
        if not self._group:
            return []
        # The newest are enough: without a token to go on with, this is the first page.
        page = scaling.describe_scaling_activities(AutoScalingGroupName=self._group)
        return list(page["Activities"])


def groups(scaling: Any, stack: str) -> list[str]:
    """Return the names of the stack's Auto Scaling groups."""
    chosen = [{"Name": f"tag:{SERVICES_TAG}", "Values": [stack]}]
    pages = scaling.get_paginator("describe_auto_scaling_groups")
    return [
        str(each["AutoScalingGroupName"])
        for page in pages.paginate(Filters=chosen)
        for each in page["AutoScalingGroups"]
    ]


def _began(activity: dict[str, Any]) -> datetime:
    at: datetime = activity["StartTime"]
    return at


def last_lines(account: Account, stack: str, since: float) -> list[str]:
    """Return the end of what an instance has reported after *since*, in seconds since the epoch."""
    for read in (_logged, _on_console):
        try:
            text = read(account, stack, since)
        except (BotoCoreError, ClientError):
            continue  # not allowed, or deleted meanwhile: the failure itself is printed anyway
        if lines := [line.rstrip() for line in text.splitlines() if line.strip()]:
            return lines[-LINES:]
    return []


def _logged(account: Account, stack: str, since: float) -> str:
    logs, group = account.client("logs"), f"/docker-job/{stack}"
    pages = logs.get_paginator("describe_log_streams")
    streams = [
        each["logStreamName"]
        for page in pages.paginate(logGroupName=group, logStreamNamePrefix=STARTS)
        for each in page["logStreams"]
        if _second(each["logStreamName"]) >= since
    ]
    if not streams:
        return ""
    found = logs.get_log_events(
        logGroupName=group, logStreamName=max(streams, key=_second), startFromHead=False
    )
    return "\n".join(str(each["message"]) for each in found["events"])


def _second(stream: str) -> int:
    """Return the time in the stream's name, `start/<instance>/<time>`."""
    last = stream.rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


def _on_console(account: Account, stack: str, since: float) -> str:
    ec2 = account.client("ec2")
    pages = ec2.get_paginator("describe_instances")
    found: list[dict[str, Any]] = [
        instance
        for page in pages.paginate(Filters=[{"Name": f"tag:{SERVICES_TAG}", "Values": [stack]}])
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
        if instance["LaunchTime"].timestamp() >= since
    ]
    if not found:
        return ""
    newest = max(found, key=lambda each: each["LaunchTime"])["InstanceId"]
    try:
        answer = ec2.get_console_output(InstanceId=newest, Latest=True)
    except ClientError:  # only instances on Nitro have the latest output
        answer = ec2.get_console_output(InstanceId=newest)
    return str(answer.get("Output") or "")
