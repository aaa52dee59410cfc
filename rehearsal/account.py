"""The set-up of an account for docker-job, made with boto3 as on AWS.

It is the instances' role with its profile, the queue of EC2's notices, and a user for the services
with the policies of `docs/iam`: the rehearsal shows that these suffice.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from fake_aws import CloudThread
from fake_aws.credentials import Credential

POLICIES = Path(__file__).resolve().parent.parent / "docs" / "iam"
ROLE = "docker-job-instance"
QUEUE = "docker-job-interruptions"
SERVICES = ("launcher", "reaper")


@dataclass(frozen=True)
class Account:
    """The account, its region, and the resources made in it."""

    number: str
    region: str
    role_arn: str
    queue_url: str
    security_group: str


def prepare(cloud: CloudThread) -> Account:
    """Make the role, its profile, and the queue that receives the cloud's events."""
    arguments = cloud.client_arguments()
    iam = boto3.client("iam", **arguments)
    trust = (POLICIES / "instance-trust.json").read_text()
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)["Role"]
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
    queue = boto3.client("sqs", **arguments).create_queue(QueueName=QUEUE)["QueueUrl"]
    cloud.control.send_events_to(queue)
    groups = boto3.client("ec2", **arguments).describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"]
    return Account(
        number=cloud.cloud.account,
        region=cloud.cloud.settings.region,
        role_arn=role["Arn"],
        queue_url=queue,
        security_group=groups[0]["GroupId"],
    )


def policy(name: str, account: Account, deployment: str) -> dict[str, Any]:
    """Return `docs/iam/<name>.json` with its placeholders filled in."""
    text = (POLICIES / f"{name}.json").read_text()
    values = {
        "REGION": account.region,
        "ACCOUNT": account.number,
        "DEPLOYMENT": deployment,
        "INSTANCE_ROLE": ROLE,
        "SECURITY_GROUP": account.security_group,
        "QUEUE": QUEUE,
    }
    for placeholder, value in values.items():
        text = text.replace(f"<{placeholder}>", value)
    filled: dict[str, Any] = json.loads(text)
    return filled


def make_user(
    cloud: CloudThread, account: Account, deployment: str, policies: tuple[str, ...] = SERVICES
) -> Credential:
    """Make a user with these policies alone; return its keys."""
    iam = boto3.client("iam", **cloud.client_arguments())
    name = f"{deployment}-{'-'.join(policies)}"
    user = iam.create_user(UserName=name)["User"]
    for each in policies:
        document = json.dumps(policy(each, account, deployment))
        iam.put_user_policy(UserName=name, PolicyName=each, PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Credential(
        access_key=key["AccessKeyId"],
        secret=key["SecretAccessKey"],
        session_token="",
        expires_at=None,
        arn=user["Arn"],
        user_id=user["UserId"],
    )
