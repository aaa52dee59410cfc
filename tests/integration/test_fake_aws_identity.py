"""Identity on the fake AWS: checked signatures, known roles, enforced policies."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from fake_aws.credentials import Credential
from tests.support.compute.ec2_clouds import (
    CONFIG,
    Launcher,
    Strict,
    code_of,
    eventually,
    ids_of,
    strict_cloud,
)

BODY = b"Action=GetCallerIdentity&Version=2011-06-15"


@pytest.fixture
def cloud() -> Iterator[Strict]:
    with strict_cloud() as made:
        yield made


# -- signatures


def signed(cloud: Strict, credential: Credential, **headers: str) -> dict[str, str]:
    """Sign a GetCallerIdentity; return its headers."""
    request = AWSRequest(
        "POST",
        cloud.thread.endpoint_url + "/",
        data=BODY,
        headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
    )
    token = credential.session_token or None
    keys = Credentials(credential.access_key, credential.secret, token)
    SigV4Auth(keys, "sts", "us-east-1").add_auth(request)
    return dict(request.headers)


def ask(cloud: Strict, headers: dict[str, str], body: bytes = BODY) -> str:
    """Return STS's answer, also a refusal."""
    return httpx.post(cloud.thread.endpoint_url + "/", content=body, headers=headers).text


def role_session(cloud: Strict, seconds: float = 3600.0) -> Credential:
    """Issue credentials as an instance's metadata service does."""
    now = datetime.now(UTC)
    return cloud.thread.call(lambda c: c.keys.for_role("worker", "i-0abc", seconds, now))


def test_an_instance_role_says_which_instance_it_is(cloud: Strict) -> None:
    session = role_session(cloud)
    account = cloud.thread.cloud.account

    answer = ask(cloud, signed(cloud, session, **{"X-Deployment": "mine"}))

    assert f"<Arn>arn:aws:sts::{account}:assumed-role/worker/i-0abc</Arn>" in answer


def test_a_signed_header_cannot_be_changed(cloud: Strict) -> None:
    headers = signed(cloud, role_session(cloud), **{"X-Deployment": "mine"})

    assert "SignatureDoesNotMatch" in ask(cloud, headers | {"X-Deployment": "other"})


def test_a_signed_body_cannot_be_changed(cloud: Strict) -> None:
    headers = signed(cloud, role_session(cloud))

    assert "SignatureDoesNotMatch" in ask(cloud, headers, BODY + b"&Extra=1")


def test_a_hash_in_a_signed_header_does_not_stand_for_the_body(cloud: Strict) -> None:
    hashed = hashlib.sha256(BODY).hexdigest()
    headers = signed(cloud, role_session(cloud), **{"X-Amz-Content-SHA256": hashed})

    assert "<Arn>" in ask(cloud, headers)
    assert "SignatureDoesNotMatch" in ask(cloud, headers, BODY + b"&Extra=1")


def test_the_host_must_be_signed(cloud: Strict) -> None:
    headers = signed(cloud, role_session(cloud))
    headers["Authorization"] = headers["Authorization"].replace("host;", "")

    assert "SignatureDoesNotMatch" in ask(cloud, headers)


def test_a_signature_for_another_host_is_refused(cloud: Strict) -> None:
    headers = signed(cloud, role_session(cloud), Host="sts.us-east-1.amazonaws.com")

    assert "<Arn>" in ask(cloud, headers)
    assert "SignatureDoesNotMatch" in ask(cloud, headers | {"Host": "evil.example"})


def test_a_secret_must_be_the_right_one(cloud: Strict) -> None:
    forged = role_session(cloud)._replace(secret="guess")

    assert "SignatureDoesNotMatch" in ask(cloud, signed(cloud, forged))


def test_unknown_keys_and_foreign_tokens_are_invalid(cloud: Strict) -> None:
    session = role_session(cloud)

    unknown = session._replace(access_key="ASIAUNKNOWN123456789")
    assert "InvalidClientTokenId" in ask(cloud, signed(cloud, unknown))
    foreign = session._replace(session_token="other")
    assert "InvalidClientTokenId" in ask(cloud, signed(cloud, foreign))


def test_a_session_ends(cloud: Strict) -> None:
    assert "ExpiredToken" in ask(cloud, signed(cloud, role_session(cloud, seconds=-1)))


def test_an_old_signature_is_worth_nothing(cloud: Strict, monkeypatch: pytest.MonkeyPatch) -> None:
    old = datetime.now(UTC) - timedelta(minutes=6)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: old)

    assert "Signature expired" in ask(cloud, signed(cloud, role_session(cloud)))


def test_an_unsigned_call_is_refused(cloud: Strict) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    assert "MissingAuthenticationToken" in ask(cloud, headers)


def test_ec2_refuses_in_its_own_words(cloud: Strict) -> None:
    wrong = cloud.thread.cloud.keys.operator._replace(access_key="AKIAWRONG00000000000")

    with pytest.raises(ClientError) as refused:
        cloud.client("ec2", wrong).describe_instances()
    assert code_of(refused) == "AuthFailure"


# -- policies


def user(cloud: Strict, name: str, *rules: dict[str, Any]) -> Credential:
    """Create a user with one inline policy; return its keys."""
    iam = cloud.client("iam")
    iam.create_user(UserName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": list(rules)})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    found = cloud.thread.call(lambda c: c.keys.find(key["AccessKeyId"]))
    assert found is not None
    return found


def allow(*actions: str, resource: str = "*", **condition: object) -> dict[str, object]:
    rule: dict[str, object] = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return rule | ({"Condition": condition} if condition else {})


def as_user(cloud: Strict, launcher: Launcher, credential: Credential) -> Launcher:
    launcher.ec2 = cloud.client("ec2", credential)
    return launcher


def test_a_fleet_without_the_right_to_create_it_is_refused(cloud: Strict) -> None:
    launcher = as_user(cloud, Launcher(cloud), user(cloud, "reader", allow("ec2:Describe*")))

    with pytest.raises(ClientError) as refused:
        launcher.fleet()
    assert code_of(refused) == "UnauthorizedOperation"
    assert launcher.shown() == []


def test_a_fleet_without_the_right_to_run_instances_is_refused_within_its_answer(
    cloud: Strict,
) -> None:
    launcher = as_user(cloud, Launcher(cloud), user(cloud, "half", allow("ec2:CreateFleet")))

    answer = launcher.fleet()

    assert ids_of(answer) == []
    assert {each["ErrorCode"] for each in answer["Errors"]} == {"UnauthorizedOperation"}


def test_a_launch_may_be_bound_to_a_tag_and_to_imdsv2(cloud: Strict) -> None:
    rules = (
        allow("ec2:CreateFleet", "ec2:Describe*"),
        allow("ec2:CreateTags", Null={"ec2:CreateAction": "false"}),
        allow(
            "ec2:RunInstances",
            resource="arn:aws:ec2:*:*:instance/*",
            StringEquals={
                "aws:RequestTag/deployment": "test",
                "ec2:MetadataHttpTokens": "required",
            },
        ),
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "NotResource": "arn:aws:ec2:*:*:instance/*",
        },
    )
    launcher = as_user(cloud, Launcher(cloud), user(cloud, "launcher", *rules))

    assert len(ids_of(launcher.fleet())) == 1
    other = [{"ResourceType": "instance", "Tags": [{"Key": "deployment", "Value": "other"}]}]
    assert ids_of(launcher.fleet(TagSpecifications=other)) == []
    with pytest.raises(ClientError) as refused:
        launcher.run(
            TagSpecifications=[{**other[0], "Tags": [{"Key": "deployment", "Value": "test"}]}]
        )
    assert code_of(refused) == "UnauthorizedOperation", "this run has no IMDSv2"


def test_termination_may_be_bound_to_a_tag(cloud: Strict) -> None:
    launcher = Launcher(cloud)
    [ours] = launcher.launch()
    [theirs] = [each["InstanceId"] for each in launcher.run()["Instances"]]
    eventually(lambda: launcher.state(ours) == launcher.state(theirs) == "running")
    bound = allow("ec2:TerminateInstances", StringEquals={"aws:ResourceTag/deployment": "test"})
    ec2 = cloud.client("ec2", user(cloud, "reaper", bound))

    with pytest.raises(ClientError) as refused:
        ec2.terminate_instances(InstanceIds=[ours, theirs])
    assert code_of(refused) == "UnauthorizedOperation"
    ec2.terminate_instances(InstanceIds=[ours])

    assert launcher.state(theirs) == "running"
    eventually(lambda: launcher.state(ours) == "terminated")


def test_a_role_without_a_policy_may_only_say_who_it_is(cloud: Strict) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName="worker", AssumeRolePolicyDocument="{}")
    session = role_session(cloud)

    arn = cloud.client("sts", session).get_caller_identity()["Arn"]
    assert arn.endswith("assumed-role/worker/i-0abc")
    for service, call in (("ec2", "describe_instances"), ("sqs", "list_queues")):
        with pytest.raises(ClientError) as refused:
            getattr(cloud.client(service, session), call)()
        assert code_of(refused) in {"UnauthorizedOperation", "AccessDenied"}


def test_the_environment_is_all_that_a_program_needs(
    cloud: Strict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.thread.environment().items():
        monkeypatch.setenv(name, value)

    arn = boto3.session.Session().client("sts", config=CONFIG).get_caller_identity()["Arn"]
    assert arn.endswith(":user/operator")
