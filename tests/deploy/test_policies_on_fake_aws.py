"""The template's policies under the EC2 adapter: the launcher's and the reaper's calls are allowed.

The rehearsal's cloud enforces them, as far as its `permissions.py` knows the permissions of a call.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from agent.build import build
from fake_aws import CloudSettings, CloudThread, start_cloud
from shared.clock import RealClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import ComputeError, Instance, LaunchBatch, LaunchRequest, Offer
from shared.events.events import Market
from tests.support.deploy import iam

REGION = "us-east-1"
STACK = "docker-job"
AGENT = hashlib.sha256(build()).hexdigest()
UNREACHABLE = "http://127.0.0.1:1"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Service": "ec2.amazonaws.com"},
            }
        ],
    }
)


class Account:
    """An account of the fake AWS with the stack's resources for the launcher and the reaper."""

    def __init__(self, cloud: CloudThread, environment: pytest.MonkeyPatch) -> None:
        self._cloud = cloud
        self._environment = environment
        self.account = account = cloud.cloud.account
        vpc = self.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        self.group = self.client("ec2").create_security_group(
            GroupName="jobs", Description="jobs", VpcId=vpc
        )["GroupId"]
        self.queue = self.client("sqs").create_queue(QueueName="interruptions")["QueueUrl"]
        self.profile = f"arn:aws:iam::{account}:instance-profile/JobProfile"
        names = {
            "AWS::AccountId": account,
            "JobSecurityGroup": self.group,
            "JobRole": f"arn:aws:iam::{account}:role/JobRole",
            "Interruptions": f"arn:aws:sqs:{REGION}:{account}:interruptions",
        }
        for role in ("LauncherRole", "ReaperRole", "JobRole"):
            self.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=TRUST)
        for role, document in iam.documents(names):
            if role in ("LauncherRole", "ReaperRole"):
                self.client("iam").put_role_policy(
                    RoleName=role, PolicyName="stack", PolicyDocument=json.dumps(document)
                )
        self.client("iam").create_instance_profile(InstanceProfileName="JobProfile")
        self.client("iam").add_role_to_instance_profile(
            InstanceProfileName="JobProfile", RoleName="JobRole"
        )

    def client(self, service: str) -> Any:
        """Make a client of the operator, without limits."""
        made: Any = boto3.client(service, **self._cloud.client_arguments())
        return made

    def become(self, role: str) -> Ec2Compute:
        """Make this process a session of *role* from now on; return an adapter under it."""
        now = datetime.now(UTC)
        keys = self._cloud.call(lambda cloud: cloud.keys.for_role(role, "test", 3600.0, now))
        for name, value in {
            "AWS_ENDPOINT_URL": self._cloud.endpoint_url,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_SESSION_TOKEN": keys.session_token,
            "AWS_DEFAULT_REGION": REGION,
        }.items():
            self._environment.setenv(name, value)
        subnets = self.client("ec2").describe_subnets()["Subnets"]
        chosen = Ec2Settings(
            instance_profile=self.profile,
            subnets=tuple(each["SubnetId"] for each in subnets),
            security_groups=(self.group,),
            prices="api",
            max_lifetime_seconds=3600,
        )
        return Ec2Compute(REGION, STACK, RealClock(), AGENT, chosen)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with start_cloud(CloudSettings(speed=200.0, boot="none")) as cloud:
        yield Account(cloud, monkeypatch)


async def launch(launcher: Ec2Compute, market: Market) -> Instance:
    """Launch one instance by the launcher's calls."""
    answer = await answer_to(launcher, market)
    assert isinstance(answer, Instance), answer
    return answer


async def answer_to(launcher: Ec2Compute, market: Market) -> Instance | ComputeError:
    """Return the answer to one launch."""
    tags = {"team": "data"}
    asked = Offer(deployment=STACK, api_url=UNREACHABLE, market=market, tags=tags)
    plan = await launcher.plan(asked)
    request = LaunchRequest(
        token=uuid.uuid4().hex,
        deployment=STACK,
        job_id=1,
        attempt=1,
        max_lifetime_seconds=3600,
        api_url=UNREACHABLE,
        bootstrap_token="none",
        market=market,
    )
    batch = LaunchBatch(token=uuid.uuid4().hex, requests=(request,), plan=plan)
    [answer] = await launcher.launch(batch)
    return answer


async def test_the_launcher_launches_and_the_reaper_ends_under_the_policies_of_their_roles(
    account: Account,
) -> None:
    launcher = account.become("LauncherRole")
    spot = await launch(launcher, "spot")
    bought = await launch(launcher, "on-demand")
    with pytest.raises(ComputeError, match="UnauthorizedOperation"):
        await launcher.terminate([spot.instance_id])

    reaper = account.become("ReaperRole")
    listed = {each.instance_id for each in await reaper.list_instances()}
    assert listed == {spot.instance_id, bought.instance_id}
    shown = await reaper.confirm([*sorted(listed), "i-0123456789abcdef0"])
    assert {each for each, it in shown.items() if isinstance(it, Instance)} == listed
    await reaper.terminate(sorted(listed))
    with pytest.raises(ComputeError, match="UnauthorizedOperation"):
        await launch(reaper, "spot")
    sqs = boto3.session.Session().client("sqs", region_name=REGION)
    account.client("sqs").send_message(QueueUrl=account.queue, MessageBody="notice")
    [message] = sqs.receive_message(QueueUrl=account.queue)["Messages"]
    sqs.delete_message(QueueUrl=account.queue, ReceiptHandle=message["ReceiptHandle"])


async def test_the_reaper_cannot_end_what_does_not_bear_our_tag(account: Account) -> None:
    image = account.client("ssm").get_parameter(
        Name="/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    )["Parameter"]["Value"]
    started = account.client("ec2").run_instances(
        ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1
    )
    reaper = account.become("ReaperRole")
    with pytest.raises(ComputeError, match="UnauthorizedOperation"):
        await reaper.terminate([started["Instances"][0]["InstanceId"]])


async def test_what_was_not_allowed_is_named_also_by_a_message_that_only_sts_can_read(
    account: Account,
) -> None:
    launcher = account.become("LauncherRole")
    spot = await launch(launcher, "spot")
    with pytest.raises(ComputeError) as refused:
        await launcher.terminate([spot.instance_id])
    where = f"arn:aws:ec2:{REGION}:{account.account}:instance/{spot.instance_id}"
    assert f"[ec2:TerminateInstances on {where}, with " in str(refused.value)
    assert "no statement allows it]" in str(refused.value)
    assert "Encoded" not in str(refused.value)


async def test_without_the_permission_to_decode_the_message_has_no_encoded_part(
    account: Account,
) -> None:
    account.client("iam").put_role_policy(
        RoleName="LauncherRole",
        PolicyName="no-decoding",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Deny", "Action": "sts:DecodeAuthorizationMessage", "Resource": "*"}
                ],
            }
        ),
    )
    launcher = account.become("LauncherRole")
    with pytest.raises(ComputeError) as refused:
        await launcher.terminate(["i-0123456789abcdef0"])
    assert "UnauthorizedOperation: You are not authorized" in str(refused.value)
    assert "Encoded" not in str(refused.value)


async def test_a_pool_s_encoded_refusal_is_decoded(account: Account) -> None:
    account.client("iam").put_role_policy(
        RoleName="LauncherRole",
        PolicyName="no-launches",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Deny", "Action": "iam:PassRole", "Resource": "*"}],
            }
        ),
    )
    launcher = account.become("LauncherRole")
    refused = str(await answer_to(launcher, "spot"))
    assert "[iam:PassRole on arn:aws:iam" in refused
    assert "docs/iam/launcher.json" in refused
    assert "Encoded" not in refused
