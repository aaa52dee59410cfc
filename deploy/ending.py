"""The end of a deployment's instances: terminated again until EC2 shows none, with a deadline.

One call is not enough: a launch under way becomes visible later, a Spot request may launch again,
and EC2 refuses to end an instance with termination protection
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html). An Auto
Scaling group of size 0 ends no instance that is in Standby, protected from scale-in or detached
(https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.progress import Progress
from deploy.refusal import DENIED_CODES, Refusal, code_of
from deploy.stack import POLL_SECONDS

ALIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]
ENDING = "shutting-down"

DEADLINE_SECONDS = 900.0
BATCH = 100
NAMED = 10
"""The number of instances that a refusal names."""


@dataclass(frozen=True)
class Ending:
    """Ends the instances with a tag. `seconds` is a monotonic clock."""

    account: Account
    stack: str
    progress: Progress
    sleep: Callable[[float], None] = time.sleep
    seconds: Callable[[], float] = time.monotonic

    def instances(self, tag: str) -> dict[str, str]:
        """Return the states of the instances with the tag that are not terminated, by id."""
        pages = self.account.client("ec2").get_paginator("describe_instances")
        chosen = [
            {"Name": f"tag:{tag}", "Values": [self.stack]},
            {"Name": "instance-state-name", "Values": ALIVE},
        ]
        return {
            instance["InstanceId"]: instance["State"]["Name"]
            for page in pages.paginate(Filters=chosen)
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        }

    def until_none(self, what: str, tag: str, *, after: float = 0.0) -> int:
        """Terminate what the list shows, from *after* seconds on, until it shows nothing.

        Return how many it has shown. Raises `Refusal` at the deadline.
        """
        began, seen = self.seconds(), set[str]()
        refused: dict[str, str] = {}
        while found := self.instances(tag):
            seen |= found.keys()
            passed = self.seconds() - began
            if passed >= DEADLINE_SECONDS:
                raise self._too_late(what, found, refused)
            if passed >= after:
                refused = self._terminate([one for one, state in found.items() if state != ENDING])
            self.progress.show(f"waiting for {what} to end: {len(found)}")
            self.sleep(POLL_SECONDS)
        return len(seen)

    def _terminate(self, ids: Sequence[str]) -> dict[str, str]:
        """Terminate the instances; return EC2's reasons for those that it does not end.

        One that it does not end may keep the others of its call: these are ended one by one.
        """
        refused: dict[str, str] = {}
        for start in range(0, len(ids), BATCH):
            batch = list(ids[start : start + BATCH])
            if self._try(batch):
                refused |= {one: why for one in batch if (why := self._try([one]))}
        return refused

    def _try(self, ids: list[str]) -> str:
        """Terminate; return EC2's reason against it, if it has one."""
        try:
            self.account.client("ec2").terminate_instances(InstanceIds=ids)
        except ClientError as error:
            if code_of(error) in DENIED_CODES:
                raise
            return " ".join(str(error.response["Error"].get("Message") or error).split())
        return ""

    def _too_late(self, what: str, found: dict[str, str], refused: dict[str, str]) -> Refusal:
        named = [
            f"{one} ({state}{f': {refused[one]}' if one in refused else ''})"
            for one, state in sorted(found.items())[:NAMED]
        ]
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return Refusal(
            f"EC2 still shows {what} after {DEADLINE_SECONDS / 60:g} minutes: {', '.join(named)}"
            f"{more}. End them with `aws ec2 terminate-instances --region {self.account.region} "
            f"--instance-ids {' '.join(sorted(found)[:NAMED])}`, then run this again."
        )
