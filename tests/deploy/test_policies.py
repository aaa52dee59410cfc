"""The recorded calls against the policies of the template: all of them allowed, nothing more."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.deploy.iam import Statement, resolve, statements, template

CALLS = Path(__file__).resolve().parent.parent.parent / "deploy" / "calls.json"
EC2 = "arn:aws:ec2:us-east-1:123456789012:"
OURS = {"aws:ResourceTag/docker-job:deployment": "docker-job"}
THEIRS = {"aws:ResourceTag/docker-job:deployment": "another"}
TAGGED = {"aws:RequestTag/docker-job:deployment": "docker-job"}


@cache
def policies() -> tuple[Statement, ...]:
    return tuple(statements())


@cache
def recorded() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(CALLS.read_text())["calls"]
    for call in found:
        call["resource"] = re.sub(r"\$\{([^}]+)\}", r"\1", call["resource"])
    return found


def allowing(role: str, action: str, resource: str, context: dict[str, str]) -> list[Statement]:
    """Return the statements that allow it; none is a denial."""
    return [
        each for each in policies() if each.role == role and each.allows(action, resource, context)
    ]


def test_every_recorded_call_is_allowed() -> None:
    refused = [
        call
        for call in recorded()
        if not allowing(call["role"], call["action"], call["resource"], call["context"])
    ]
    assert refused == []
    print(f"\n{len(recorded())} recorded calls are allowed by {len(policies())} statements")


def test_no_action_is_allowed_that_nothing_uses() -> None:
    allowed = {(each.role, action) for each in policies() for action in each.actions}
    assert not [action for _, action in allowed if "*" in action or "?" in action]
    used = {(call["role"], call["action"]) for call in recorded()}
    assert allowed == used


def test_no_kind_of_resource_is_allowed_that_nothing_uses() -> None:
    for statement in policies():
        for resource in statement.resources:
            alone = Statement(
                role=statement.role,
                sid=statement.sid,
                actions=statement.actions,
                resources=(resource,),
                conditions=statement.conditions,
            )
            assert any(
                alone.role == call["role"]
                and alone.allows(call["action"], call["resource"], call["context"])
                for call in recorded()
            ), f"{statement.sid}: {resource}"


@pytest.mark.parametrize(
    ("role", "action", "resource", "context"),
    [
        ("ReaperRole", "ec2:TerminateInstances", "instance/i-1", {}),
        ("ReaperRole", "ec2:TerminateInstances", "instance/i-1", THEIRS),
        ("ReaperRole", "ec2:GetConsoleOutput", "instance/i-1", THEIRS),
        ("LauncherRole", "ec2:GetConsoleOutput", "instance/i-1", OURS),
        ("ReaperRole", "ec2:CreateFleet", "fleet/fleet-1", TAGGED),
        ("ReaperRole", "ec2:RunInstances", "instance/i-1", TAGGED),
        ("LauncherRole", "ec2:TerminateInstances", "instance/i-1", OURS),
        ("LauncherRole", "ec2:CreateFleet", "fleet/fleet-1", {}),
        ("LauncherRole", "ec2:RunInstances", "instance/i-1", TAGGED),
        (
            "LauncherRole",
            "ec2:RunInstances",
            "instance/i-1",
            {
                **TAGGED,
                "ec2:MetadataHttpTokens": "optional",
                "ec2:MetadataHttpPutResponseHopLimit": "1",
                "ec2:LaunchTemplate": EC2 + "launch-template/lt-1",
            },
        ),
        (
            "LauncherRole",
            "ec2:RunInstances",
            "instance/i-1",
            {
                **TAGGED,
                "ec2:MetadataHttpTokens": "required",
                "ec2:MetadataHttpPutResponseHopLimit": "2",
                "ec2:LaunchTemplate": EC2 + "launch-template/lt-1",
            },
        ),
        ("LauncherRole", "ec2:RunInstances", "security-group/sg-another", {}),
        ("LauncherRole", "ec2:RunInstances", "launch-template/lt-1", THEIRS),
        ("LauncherRole", "ec2:CreateTags", "instance/i-1", TAGGED),
        ("LauncherRole", "ec2:DeleteLaunchTemplateVersions", "launch-template/lt-1", THEIRS),
        ("ServicesRole", "ec2:TerminateInstances", "instance/i-1", OURS),
        ("ServicesRole", "ec2:AttachVolume", "volume/vol-another", OURS),
        ("ServicesRole", "ec2:CreateFleet", "fleet/fleet-1", TAGGED),
    ],
)
def test_what_must_not_be_is_not_allowed(
    role: str, action: str, resource: str, context: dict[str, str]
) -> None:
    assert allowing(role, action, EC2 + resource, context) == []


def test_the_launcher_may_give_instances_the_jobs_role_and_no_other() -> None:
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    assert allowing("LauncherRole", "iam:PassRole", "JobRole", to_ec2)
    assert not allowing("LauncherRole", "iam:PassRole", "ServicesRole", to_ec2)
    to_lambda = {"iam:PassedToService": "lambda.amazonaws.com"}
    assert not allowing("LauncherRole", "iam:PassRole", "JobRole", to_lambda)


def test_another_stacks_secrets_are_closed() -> None:
    secret = "arn:aws:ssm:us-east-1:123456789012:parameter/docker-job/another/token_key"
    assert not allowing("ServicesRole", "ssm:GetParameter", secret, {})


def test_a_job_instance_may_do_nothing_unless_its_user_says_what() -> None:
    resources = template()["Resources"]
    given = [each.sid for each in policies() if each.role == "JobRole"]
    assert given == ["SessionManager"]
    assert resources["JobSessionPolicy"]["Condition"] == "WithSessionManager"
    assert template()["Parameters"]["SessionManager"]["Default"] == "off"
    given = resources["JobRole"]["Properties"]["ManagedPolicyArns"]
    assert given == {
        "Fn::If": ["WithJobPolicy", [{"Ref": "JobPolicyArn"}], {"Ref": "AWS::NoValue"}]
    }


def test_each_role_may_be_taken_on_by_those_alone_who_need_it() -> None:
    resources = template()["Resources"]
    trusted = {
        name: [
            resolve(each["Principal"])
            for each in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        ]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::IAM::Role"
    }
    assert trusted == {
        "LauncherRole": [{"AWS": "ServicesRole"}],
        "ReaperRole": [{"AWS": "ServicesRole"}],
        "JobRole": [{"Service": "ec2.amazonaws.com"}],
        "ServicesRole": [{"Service": "ec2.amazonaws.com"}],
        "SnapshotRole": [{"Service": "dlm.amazonaws.com"}],
    }
