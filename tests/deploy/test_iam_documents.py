"""`docs/iam`: the template's policies for a manual set-up, and their proofs.

The fake AWS enforces policies. It cannot prove entries that it never checks: those are found here,
and docs/ec2.md must list the same.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from fake_aws.permissions import Need, Permissions
from fake_aws.policies import Statement, allows
from shared.clock import VirtualClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import Misconfigured
from tests.deploy.test_policies_on_fake_aws import AGENT, REGION, STACK, launch
from tests.deploy.test_policies_on_fake_aws import Account as Stack
from tests.deploy.test_policies_on_fake_aws import account as stack
from tests.support.deploy import iam

__all__ = ["stack"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLANKS = {
    "AWS::Region": "<REGION>",
    "AWS::AccountId": "<ACCOUNT>",
    "AWS::StackName": "<DEPLOYMENT>",
    "JobSecurityGroup": "<SECURITY_GROUP>",
    "EbsKeyArn": "arn:aws:kms:<REGION>:<ACCOUNT>:key/<KEY>",
    "JobRole": "arn:aws:iam::<ACCOUNT>:role/<INSTANCE_ROLE>",
    "Interruptions": "arn:aws:sqs:<REGION>:<ACCOUNT>:<QUEUE>",
}
FILES = {
    "LauncherRole": "launcher",
    "ReaperRole": "reaper",
    "LauncherRole/LauncherKeyPolicy": "launcher-key",
    "JobRole/JobSessionPolicy": "instance-sessions",
}


def document(name: str) -> dict[str, Any]:
    """Read one file of docs/iam."""
    read: dict[str, Any] = json.loads((DOCS / "iam" / f"{name}.json").read_text())
    return read


@pytest.mark.parametrize("role", FILES)
def test_the_documents_are_the_policies_that_the_template_gives(role: str) -> None:
    given = dict(iam.documents(BLANKS))
    assert document(FILES[role]) == json.loads(json.dumps(given[role]))


def test_the_instances_role_is_trusted_to_ec2_alone() -> None:
    given = iam.template()["Resources"]["JobRole"]["Properties"]["AssumeRolePolicyDocument"]
    trust = document("instance-trust")
    assert trust == json.loads(json.dumps(iam.resolve(given)))
    assert [each["Principal"] for each in trust["Statement"]] == [{"Service": "ec2.amazonaws.com"}]


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Need, dict[str, Any]]]:
    """Return the permissions that the cloud has checked, with their contexts."""
    asked: list[tuple[Need, dict[str, Any]]] = []
    grants = Permissions._grants

    def note(self: Permissions, rules: list[Statement], need: Need) -> bool:
        asked.append((need, dict(need.context)))
        return grants(self, rules, need)

    monkeypatch.setattr(Permissions, "_grants", note)
    return asked


async def test_what_no_rehearsal_can_prove_of_the_policies_is_named_in_the_docs(
    stack: Stack, needs: list[tuple[Need, dict[str, Any]]]
) -> None:
    names = {
        "AWS::AccountId": stack.account,
        "JobSecurityGroup": stack.group,
        "JobRole": f"arn:aws:iam::{stack.account}:role/JobRole",
        "Interruptions": f"arn:aws:sqs:{REGION}:{stack.account}:interruptions",
    }
    unproven: list[str] = []
    for role, play in (("LauncherRole", play_launcher), ("ReaperRole", play_reaper)):
        needs.clear()
        await play(stack)
        statements = dict(iam.documents(names))[role]["Statement"]
        unproven += [
            f"{FILES[role]} {sid} {action} {kind}"
            for sid, action, kind, alone in entries(statements)
            if not any(allows([alone], need.action, need.resource, known) for need, known in needs)
        ]
    assert unproven == documented_unproven()


async def play_launcher(stack: Stack) -> None:
    """Make every call of a launcher, with a template that replaces another."""
    launcher = stack.become("LauncherRole")
    await launch(launcher, "spot")
    await launch(launcher, "on-demand")
    tomorrow = VirtualClock(datetime.now(UTC) + timedelta(days=2))
    bigger = Ec2Settings(
        instance_profile=stack.profile,
        security_groups=(stack.group,),
        disk_gib=50,
        max_lifetime_seconds=3600,
    )
    await launch(Ec2Compute(REGION, STACK, tomorrow, AGENT, bigger), "spot")
    with pytest.raises(Misconfigured, match="no statement allows it"):
        await launcher.terminate(["i-0123456789abcdef0"])


async def play_reaper(stack: Stack) -> None:
    """Make every call of a reaper."""
    reaper = stack.become("ReaperRole")
    for each in await reaper.list_instances():
        await reaper.console_output(each.instance_id)
    await reaper.terminate([each.instance_id for each in await reaper.list_instances()])
    with pytest.raises(Misconfigured, match="no statement allows it"):
        await reaper.terminate(["i-0123456789abcdef0"])
    stack.client("sqs").send_message(QueueUrl=stack.queue, MessageBody="notice")
    sqs = boto3.session.Session().client("sqs", region_name=REGION)
    [message] = sqs.receive_message(QueueUrl=stack.queue)["Messages"]
    sqs.delete_message_batch(
        QueueUrl=stack.queue, Entries=[{"Id": "1", "ReceiptHandle": message["ReceiptHandle"]}]
    )


def entries(statements: list[Statement]) -> Iterator[tuple[str, str, str, Statement]]:
    """Split statements: each action on each kind of resource is a statement of its own."""
    for statement in statements:
        for action in iam.many(statement["Action"]):
            for resource in iam.many(statement["Resource"]):
                kind = resource if resource == "*" else resource.split(":", 5)[5].split("/")[0]
                yield (
                    statement["Sid"],
                    action,
                    kind,
                    {**statement, "Action": action, "Resource": resource},
                )


def documented_unproven() -> list[str]:
    """Return the list in docs/ec2.md."""
    found = re.search(r"```unproven\n(.*?)```", (DOCS / "ec2.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1].splitlines()
