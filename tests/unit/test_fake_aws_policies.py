"""The evaluation of IAM policies by the fake AWS."""

from typing import Any

import pytest

from fake_aws.policies import Context, allows, statements

INSTANCE = "arn:aws:ec2:us-east-1:111122223333:instance/i-1"


def allowed(context: Context | None = None, *rules: dict[str, Any], action: str = "") -> bool:
    return allows(
        statements([{"Version": "2012-10-17", "Statement": list(rules)}]),
        action or "ec2:TerminateInstances",
        INSTANCE,
        context or {},
    )


def rule(effect: str = "Allow", **changes: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": "ec2:TerminateInstances", "Resource": "*", **changes}


def test_nothing_is_allowed_without_an_allow() -> None:
    assert not allowed({}, rule(Action="ec2:RunInstances"))
    assert allowed({}, rule())


def test_a_deny_outweighs_every_allow() -> None:
    assert not allowed({}, rule(), rule("Deny"))
    assert allowed({}, rule(), rule("Deny", Resource="arn:aws:ec2:*:*:volume/*"))


def test_names_may_have_wildcards_and_any_case() -> None:
    assert allowed({}, rule(Action="EC2:terminate*"))
    assert allowed({}, rule(Resource="arn:aws:ec2:*:*:instance/*"))
    assert not allowed({}, rule(Resource="arn:aws:ec2:us-west-2:*:instance/*"))
    assert not allowed({}, {"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"})


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:ResourceTag/d": "x"}}, {"aws:resourcetag/d": "x"}, True),
        ({"StringEquals": {"aws:ResourceTag/d": "x"}}, {"aws:resourcetag/d": "y"}, False),
        ({"StringEquals": {"aws:ResourceTag/d": "x"}}, {}, False),
        ({"StringEquals": {"aws:ResourceTag/d": ["y", "x"]}}, {"aws:resourcetag/d": "x"}, True),
        ({"StringNotEquals": {"aws:ResourceTag/d": "x"}}, {}, True),
        ({"StringNotEquals": {"aws:ResourceTag/d": "x"}}, {"aws:resourcetag/d": "x"}, False),
        ({"StringEqualsIfExists": {"ec2:MetadataHttpTokens": "required"}}, {}, True),
        ({"StringLike": {"aws:RequestTag/d": "prod-*"}}, {"aws:requesttag/d": "prod-1"}, True),
        ({"Null": {"aws:RequestTag/d": "false"}}, {"aws:requesttag/d": "x"}, True),
        ({"Null": {"aws:RequestTag/d": "false"}}, {}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:tagkeys": ["a"]}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}, {"aws:tagkeys": ["a", "c"]}, False),
        ({"NumericLessThanEquals": {"ec2:MetadataHttpPutResponseHopLimit": "1"}}, {}, False),
        (
            {"NumericLessThanEquals": {"ec2:MetadataHttpPutResponseHopLimit": "1"}},
            {"ec2:metadatahttpputresponsehoplimit": "1"},
            True,
        ),
        ({"Bool": {"ec2:IsLaunchTemplateResource": "true"}}, {}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: Context, holds: bool) -> None:  # noqa: FBT001
    assert allowed(context, rule(Condition=condition)) is holds


def test_an_operator_that_is_not_known_is_no_silent_yes() -> None:
    with pytest.raises(ValueError, match="DateGreaterThan"):
        allowed({"a": "1"}, rule(Condition={"DateGreaterThan": {"a": "1"}}))
