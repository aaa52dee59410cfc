"""The doctor in a first run: before the deployment from here, then on it as each service's role."""

import json
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from deploy.first_cloud import one_of
from deploy.first_world import ByHand, Differs, Facts, World, require, tail
from deploy.place import SERVICES_TAG
from deploy.refusal import code_of

DOCTOR = "operations.doctor"
ROLES = ("launcher", "reaper")
MADE_BY_DEPLOY = frozenset({"instance profile", "Spot's role"})
"""Findings that fail before deploy.sh, which makes what they miss."""

OF_SERVICES = frozenset({"API", "database and broker", "interruptions"})
"""Groups of which nothing exists before deploy.sh."""

COMPOSE = "/opt/docker-job/current/deploy/instance/compose.sh"
DOCUMENT = "AWS-RunShellScript"
DELIVERY_SECONDS = 60
RUN_SECONDS = 600
SETTLED = frozenset({"Success", "Failed", "Cancelled", "TimedOut"})
NOT_REACHED = frozenset({"Undeliverable", "DeliveryTimedOut", "Terminated", "InvalidPlatform"})
"""https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html"""


def before(world: World) -> Facts:
    """Check from here what exists before the deployment; a failing line of it differs."""
    done = world.module(DOCTOR, "--json")
    try:
        found = json.loads(done.stdout)["checks"]
    except (ValueError, KeyError, TypeError) as error:
        last = " ".join(tail(done.stdout + done.stderr)[-1:])
        raise Differs(f"the doctor ended with {done.returncode}: {last}") from error
    failed = [line_of(each) for each in found if each["status"] == "fail" and _counts(each)]
    if failed:
        raise Differs("; ".join(failed))
    require(found, "the doctor has checked nothing")
    return {"exit_status": done.returncode, "findings": [line_of(each) for each in found]}


def _counts(finding: dict[str, Any]) -> bool:
    return finding["name"] not in MADE_BY_DEPLOY and finding["group"] not in OF_SERVICES


def line_of(finding: dict[str, Any]) -> str:
    """Return a finding in one line."""
    do = f"; {finding['do']}" if finding.get("do") else ""
    return f"{finding['status']} {finding['name']}: {finding['found']}{do}"


def as_each_role(world: World) -> Facts:
    """Run the doctor on the services' instance, with the launcher's and the reaper's role."""
    instance = one_of(world, SERVICES_TAG)
    outputs: Facts = {}
    for role in ROLES:
        try:
            status, output = _on_instance(world, instance, command(role))
        except _NotReachedError as error:
            raise ByHand(by_hand(world, instance, str(error)), instance=instance) from error
        outputs[role] = {"exit_status": status, "output": tail(output)}
        if status != 0:
            failed = [each.strip() for each in output.splitlines() if _has_failed(each)]
            why = "; ".join(failed or tail(output)[-1:])
            raise Differs(f"the doctor as {role} ended with {status}: {why}")
    return outputs


def command(role: str) -> str:
    """Return the command for a root of the services' instance."""
    return f"{COMPOSE} run --rm --no-deps -T {role} {DOCTOR} --as {role}"


def by_hand(world: World, instance: str, why: str) -> str:
    """Return what the operator types where Run Command does not work."""
    session = f"aws ssm start-session --region {world.account.region} --target {instance}"
    lines: Sequence[str] = [f"sudo {command(role)}" for role in ROLES]
    return f"Run Command does not reach the instance ({why}). Type: {session}; " + "; ".join(lines)


def _has_failed(line: str) -> bool:
    return line.split()[:1] == ["fail"]


class _NotReachedError(Exception):
    """Run Command did not run the command. The message is why."""


def _on_instance(world: World, instance: str, line: str) -> tuple[int, str]:
    """Run *line* as root by Systems Manager; return its exit status and its output.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html
    """
    ssm = world.account.client("ssm")
    try:
        sent = ssm.send_command(
            InstanceIds=[instance],
            DocumentName=DOCUMENT,
            Comment="docker-job's first run",
            TimeoutSeconds=DELIVERY_SECONDS,
            Parameters={"commands": [line], "executionTimeout": [str(RUN_SECONDS)]},
        )["Command"]["CommandId"]
    except ClientError as error:
        raise _NotReachedError(code_of(error)) from error
    asked = {"CommandId": sent, "InstanceId": instance}

    def settled() -> dict[str, Any] | None:
        try:
            shown: dict[str, Any] = ssm.get_command_invocation(**asked)
        except ClientError as error:
            if code_of(error) == "InvocationDoesNotExist":
                return None  # not yet
            raise _NotReachedError(code_of(error)) from error
        return shown if shown["Status"] in SETTLED else None

    seconds = DELIVERY_SECONDS + RUN_SECONDS + 60
    try:
        shown: dict[str, Any] = world.until("Run Command ends", seconds, settled)
    except Differs as error:
        raise _NotReachedError(str(error)) from error
    details = str(shown.get("StatusDetails", "")).replace(" ", "")
    if details in NOT_REACHED or int(shown.get("ResponseCode", -1)) < 0:
        raise _NotReachedError(details or str(shown["Status"]))
    return int(shown["ResponseCode"]), _output_of(shown)


def _output_of(shown: dict[str, Any]) -> str:
    parts = (shown.get("StandardOutputContent"), shown.get("StandardErrorContent"))
    return "\n".join(each for each in parts if each)
