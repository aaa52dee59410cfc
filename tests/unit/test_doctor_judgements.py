"""What the doctor concludes from several answers, from a quota and from a policy."""

import json
from typing import Any, cast

import pytest

from shared.compute.ec2.doctor import probes
from shared.compute.ec2.doctor.asking import DRY_RUN, Outcome
from shared.compute.ec2.doctor.limits import least_vcpus
from shared.compute.ec2.doctor.probes import Unprovable, worst
from shared.compute.ec2.doctor.queue_policy import judge
from shared.compute.ec2.doctor.scene import Scene

QUEUE = "arn:aws:sqs:us-east-1:123456789012:notices"
RULE = "arn:aws:events:us-east-1:123456789012:rule/notices"


def outcome(code: str, message: str = "") -> Outcome:
    return Outcome(answer={}, code=code, message=message)


ALLOWED = outcome(DRY_RUN)
DENIED = outcome("UnauthorizedOperation")
OTHER = outcome("MaxSpotInstanceCountExceeded")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([OTHER, DENIED, ALLOWED], DENIED),
        ([ALLOWED, OTHER], OTHER),
        ([ALLOWED, ALLOWED], ALLOWED),
    ],
)
def test_a_denied_call_is_worse_than_any_other_error(
    outcomes: list[Outcome], expected: Outcome
) -> None:
    assert worst(outcomes) is expected


def test_the_smallest_type_counts_under_each_quota() -> None:
    sizes = {"m5.4xlarge": 16, "c5.2xlarge": 8, "g5.xlarge": 4}
    least = least_vcpus([*sizes, "x9.unknown", "mac2.metal"], sizes, "spot")
    assert {each.code: vcpus for each, vcpus in least.items()} == {
        "L-34B43A08": 8,
        "L-3819A6DF": 4,
        "L-E3A00192": 1,
    }


TEMPLATE = "on resource: arn:aws:ec2:us-east-1:1:launch-template/lt-00000000000000000"
FLEET = "on resource: arn:aws:ec2:us-east-1:1:fleet/*"


@pytest.mark.parametrize(
    ("answer", "proven"),
    [
        (ALLOWED, True),
        (outcome("UnauthorizedOperation", f"ec2:CreateFleet {FLEET}"), True),
        (outcome("UnauthorizedOperation", f"ec2:CreateTags {FLEET}"), True),
        # A policy that binds the template's tags, or a check of its existence: AWS may do either.
        (outcome("UnauthorizedOperation", f"ec2:CreateFleet {TEMPLATE}"), False),
        (outcome("UnauthorizedOperation", "You are not authorized."), False),
        (outcome("InvalidLaunchTemplateId.NotFoundException"), False),
    ],
)
async def test_an_invented_template_proves_what_it_can(
    monkeypatch: pytest.MonkeyPatch, answer: Outcome, *, proven: bool
) -> None:
    class Draft:
        version = None

    async def draft(*_: Any) -> Any:
        return Draft()

    async def dry_run(*_: Any, **__: Any) -> Outcome:
        return answer

    class World:
        aws = offer = None

    monkeypatch.setattr(probes, "_draft", draft)
    monkeypatch.setattr(probes, "dry_run", dry_run)
    monkeypatch.setattr(probes, "fleet_call", lambda *_: {})
    if proven:
        assert await probes.fleets(cast("Scene", World())) is answer
    else:
        with pytest.raises(Unprovable, match="check again"):
            await probes.fleets(cast("Scene", World()))


def statement(**changes: Any) -> dict[str, Any]:
    whole = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": QUEUE,
    }
    return {**whole, **changes}


def when(operator: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


def deny(**changes: Any) -> dict[str, Any]:
    return statement(Effect="Deny", Principal="*", Action="*", **changes)


SECURE = when("Bool", "aws:SecureTransport", "false")
PERIMETER = {
    "Condition": {
        "NotIpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"},
        "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
    }
}


@pytest.mark.parametrize(
    ("statements", "verdict"),
    [
        ([], "denied"),
        ([statement()], "allowed"),
        ([statement(Principal="*")], "allowed"),
        ([statement(Principal={"AWS": "*"})], "allowed"),
        ([statement(Principal={"Service": ["sns.amazonaws.com"]})], "denied"),
        ([statement(Principal={"AWS": "arn:aws:iam::1:role/events.amazonaws.com"})], "denied"),
        ([statement(Action=["SQS:Send*"])], "allowed"),
        ([statement(Action="sqs:ReceiveMessage")], "denied"),
        ([statement(Resource=f"{QUEUE}-2")], "denied"),
        ([statement(Resource="arn:aws:sqs:*:*:notices")], "allowed"),
        ([statement(**when("ArnEquals", "aws:SourceArn", RULE))], "allowed"),
        ([statement(**when("ArnLike", "AWS:SourceArn", [f"{RULE}*", "x"]))], "allowed"),
        ([statement(**when("ArnEquals", "aws:SourceArn", f"{RULE}-2"))], "denied"),
        ([statement(**when("StringEquals", "aws:SourceAccount", "123456789012"))], "allowed"),
        ([statement(**when("StringEquals", "aws:SourceAccount", "210987654321"))], "denied"),
        ([statement(**when("StringEquals", "aws:PrincipalOrgID", "o-1"))], "denied"),
        ([statement(**when("StringEquals", "aws:SourceOrgID", "o-1"))], "unclear"),
        ([statement(), deny()], "denied"),
        ([statement(), deny(**SECURE)], "allowed"),
        ([statement(), deny(**PERIMETER)], "allowed"),
        ([statement(), deny(**when("StringNotEquals", "aws:PrincipalOrgID", "o-1"))], "denied"),
        ([statement(), deny(**when("IpAddress", "aws:SourceIp", "10.0.0.0/8"))], "unclear"),
        ([statement(), deny(NotPrincipal={"Service": "events.amazonaws.com"})], "allowed"),
    ],
)
def test_a_queues_policy_is_judged_as_iam_does(
    statements: list[dict[str, Any]], verdict: str
) -> None:
    for each in statements:
        if "NotPrincipal" in each:
            del each["Principal"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    assert judge(policy, QUEUE, RULE) == verdict


def test_without_a_rule_only_a_condition_on_it_is_open() -> None:
    bound = statement(**when("ArnEquals", "aws:SourceArn", RULE))
    for given, verdict in ((statement(), "allowed"), (bound, "unclear")):
        assert judge(json.dumps({"Statement": given}), QUEUE, None) == verdict
    assert judge("", QUEUE, None) == "denied"
