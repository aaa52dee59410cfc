"""The CloudFormation stack: its state, changing it, and waiting for it."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.progress import Progress
from deploy.refusal import Refusal, code_of
from deploy.source import ROOT

TEMPLATE = ROOT / "deploy" / "template.yaml"
POLL_SECONDS = 5.0

READY = frozenset(
    {
        *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"),
        *("IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"),
    }
)
"""The states from which a stack can be updated."""

DEAD = frozenset(
    {
        *("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"),
        "REVIEW_IN_PROGRESS",
    }
)
"""The states from which it can only be deleted."""


@dataclass(frozen=True)
class Stack:
    """An existing stack."""

    name: str
    stack_id: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]


def find_stack(account: Account, name: str) -> Stack | None:
    """Return the stack with that name or id, or None."""
    try:
        [found] = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if code_of(error) == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    return Stack(
        name=found["StackName"],
        stack_id=found["StackId"],
        status=found["StackStatus"],
        parameters={
            each["ParameterKey"]: each.get("ParameterValue", "")
            for each in found.get("Parameters", [])
        },
        outputs={each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])},
    )


def physical_id(account: Account, stack: Stack, logical_id: str) -> str:
    """Return the id of a resource of the stack, empty where it is not made."""
    pages = account.client("cloudformation").get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack.stack_id):
        for each in page["StackResourceSummaries"]:
            is_deleted = each["ResourceStatus"] == "DELETE_COMPLETE"
            if each["LogicalResourceId"] == logical_id and not is_deleted:
                return str(each.get("PhysicalResourceId") or "")
    return ""


def refuse_unusable(stack: Stack, region: str) -> None:
    """Raise `Refusal`, with a remedy, where the stack cannot be updated."""
    here = f"The stack {stack.name} is in {stack.status}"
    if stack.status in READY:
        return
    if stack.status in DEAD:
        raise Refusal(
            f"{here} and can only be deleted: deploy/destroy.sh --stack {stack.name} "
            f"--region {region} --keep-data, then run this again."
        )
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        raise Refusal(
            f"{here}: run `aws cloudformation continue-update-rollback --stack-name {stack.name} "
            f"--region {region}`, then this again."
        )
    raise Refusal(f"{here}: it is being changed now. Wait until that has ended.")


def apply(account: Account, name: str, parameters: Mapping[str, str], old: Stack | None) -> bool:
    """Create or update the stack; return False where there is nothing to change."""
    call: dict[str, Any] = {
        "StackName": name,
        "TemplateBody": TEMPLATE.read_text(encoding="utf-8"),
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
        "Capabilities": ["CAPABILITY_IAM"],
    }
    cloudformation = account.client("cloudformation")
    if old is None:
        cloudformation.create_stack(**call)
        return True
    try:
        cloudformation.update_stack(**call)
    except ClientError as error:
        if code_of(error) == "ValidationError" and "No updates" in str(error):
            return False
        raise
    return True


@dataclass(frozen=True)
class Waiting:
    """Waits for a stack and shows its progress."""

    account: Account
    progress: Progress
    sleep: Callable[[float], None] = time.sleep
    failed: Callable[[], None] = lambda: None
    """Called at the first failure, before what has failed is removed."""
    look: Callable[[], Iterable[str]] = tuple
    """Called while the stack changes: what it returns is shown at once."""

    def until_settled(self, name: str, since: str | None) -> Stack | None:
        """Show each change until none is in progress; *since* is the last event before.

        Return the stack in any state, or None where it is deleted: the caller checks the status.
        """
        seen: set[str] = set()
        failed = False
        while True:
            if self._show_events(name, since, seen) and not failed:
                failed = True
                self.failed()
            for text in self.look():
                self.progress.note(text)
            stack = find_stack(self.account, name)
            if stack is None or not stack.status.endswith("_IN_PROGRESS"):
                return stack
            self.sleep(POLL_SECONDS)

    def _show_events(self, name: str, since: str | None, seen: set[str]) -> bool:
        """Show the new events; return whether one of them is a failure."""
        failed = False
        for event in reversed(events(self.account, name, since)):
            if event["EventId"] in seen:
                continue
            seen.add(event["EventId"])
            state = event["ResourceStatus"].replace("_", " ").lower()
            self.progress.show(f"{event['LogicalResourceId']}: {state}")
            failed = failed or event["ResourceStatus"].endswith("_FAILED")
        return failed


def events(account: Account, name: str, since: str | None) -> list[dict[str, Any]]:
    """Return the stack's events after the one with the id *since*, newest first."""
    found: list[dict[str, Any]] = []
    pages = account.client("cloudformation").get_paginator("describe_stack_events")
    try:
        for page in pages.paginate(StackName=name):
            for event in page["StackEvents"]:
                if event["EventId"] == since:
                    return found
                found.append(event)
    except ClientError as error:
        if code_of(error) != "ValidationError":  # no such stack: it has no events
            raise
    return found


def last_event(account: Account, stack: Stack | None) -> str | None:
    """Return the id of the newest event, or None."""
    found = events(account, stack.stack_id, None) if stack else []
    return str(found[0]["EventId"]) if found else None


def first_failure(account: Account, stack: Stack, since: str | None) -> str:
    """Return the first failure, as a line of text: later ones are its consequence."""
    for event in reversed(events(account, stack.stack_id, since)):
        reason = event.get("ResourceStatusReason", "")
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            return f"{event['LogicalResourceId']}: {' '.join(reason.split()) or 'no reason given'}"
    return "CloudFormation names no reason"
