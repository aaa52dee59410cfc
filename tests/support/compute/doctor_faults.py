"""Faults of an installation: how each is made, and the lines of the doctor that show it."""

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from rehearsal.account import ROLE
from shared.compute.ec2.doctor.permissions import BY_ROLE
from tests.support.compute.doctor_world import DEPLOYMENT, PATTERN, DoctorWorld

PERMISSIONS = BY_ROLE.items()

Make = Callable[[DoctorWorld], AbstractContextManager[None]]

# Without this permission, these lines fail too: the same call is what they check.
FOLLOWS = {
    "ec2:DescribeImages": ("image",),
    "ec2:DescribeSubnets": ("subnets",),
    "ssm:GetParameter": ("image parameter",),
    "ec2:CreateTags": ("ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateLaunchTemplate"),
    "iam:PassRole": ("ec2:RunInstances",),
    "sqs:ReceiveMessage": ("queue",),
}
# EC2's refusal of RunInstances may name the missing one, but need not.
DENIED = {"ec2:CreateTags": {"fail", "warn"}, "iam:PassRole": {"fail", "warn"}}


@contextlib.contextmanager
def nothing(_world: DoctorWorld) -> Iterator[None]:
    """Do nothing: the settings are the fault."""
    yield


@dataclass(frozen=True)
class Fault:
    """A fault; *found* are the lines that are not ok, the first with *do* and *text*."""

    name: str
    found: dict[str, str]
    do: str = ""
    text: str = ""
    make: Make = nothing
    settings: dict[str, str] = field(default_factory=dict)


def _ec2(world: DoctorWorld) -> Any:
    return world.client("ec2")


def _vpc(world: DoctorWorld) -> str:
    return str(_ec2(world).describe_vpcs()["Vpcs"][0]["VpcId"])


def _main_table(world: DoctorWorld) -> str:
    tables = _ec2(world).describe_route_tables()["RouteTables"]
    return str(tables[0]["RouteTableId"])


@contextlib.contextmanager
def no_route(world: DoctorWorld) -> Iterator[None]:
    table, ec2 = _main_table(world), _ec2(world)
    gateway = ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    yield
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


@contextlib.contextmanager
def no_public_address(world: DoctorWorld) -> Iterator[None]:
    subnet = _ec2(world).describe_subnets()["Subnets"][0]["SubnetId"]
    for given in (False, True):
        _ec2(world).modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": given})
        if not given:
            yield


@contextlib.contextmanager
def endpoints_alone(world: DoctorWorld) -> Iterator[None]:
    vpc, ec2 = _vpc(world), _ec2(world)
    with no_route(world):
        made = [
            ec2.create_vpc_endpoint(
                VpcId=vpc, ServiceName=f"com.amazonaws.us-east-1.{name}", VpcEndpointType=kind
            )
            for name, kind in (
                ("ecr.api", "Interface"),
                ("ecr.dkr", "Interface"),
                ("s3", "Gateway"),
            )
        ]
        yield
        ids = [each["VpcEndpoint"]["VpcEndpointId"] for each in made]
        ec2.delete_vpc_endpoints(VpcEndpointIds=ids)


def dns(attribute: str) -> Make:
    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        vpc, ec2 = _vpc(world), _ec2(world)
        ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": False}})
        yield
        ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})

    return make


@contextlib.contextmanager
def closed_group(world: DoctorWorld) -> Iterator[None]:
    group, ec2 = world.account.security_group, _ec2(world)
    rules = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=rules)
    yield
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=rules)


@contextlib.contextmanager
def open_metadata(world: DoctorWorld) -> Iterator[None]:
    name, ec2 = f"docker-job-{DEPLOYMENT}", _ec2(world)
    ec2.create_launch_template_version(
        LaunchTemplateName=name,
        SourceVersion="1",
        LaunchTemplateData={
            "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}
        },
    )
    yield
    ec2.delete_launch_template_versions(LaunchTemplateName=name, Versions=["2"])


@contextlib.contextmanager
def no_profile_role(world: DoctorWorld) -> Iterator[None]:
    iam, names = world.client("iam"), {"InstanceProfileName": ROLE, "RoleName": ROLE}
    iam.remove_role_from_instance_profile(**names)
    yield
    iam.add_role_to_instance_profile(**names)


def trust(principal: dict[str, Any]) -> Make:
    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        _set_trust(world, principal)
        yield
        _set_trust(world, {"Service": "ec2.amazonaws.com"})

    return make


def _set_trust(world: DoctorWorld, principal: dict[str, Any]) -> None:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    world.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=document)


@contextlib.contextmanager
def no_spot_role(world: DoctorWorld) -> Iterator[None]:
    iam, name = world.client("iam"), "AWSServiceRoleForEC2Spot"
    document = json.dumps(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
    iam.delete_role(RoleName=name)
    yield
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)


@contextlib.contextmanager
def no_rule(world: DoctorWorld) -> Iterator[None]:
    world.client("events").disable_rule(Name="interruptions")
    yield
    world.client("events").enable_rule(Name="interruptions")


@contextlib.contextmanager
def half_a_rule(world: DoctorWorld) -> Iterator[None]:
    half = {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}
    for pattern in (half, PATTERN):
        world.client("events").put_rule(Name="interruptions", EventPattern=json.dumps(pattern))
        if pattern is half:
            yield


@contextlib.contextmanager
def no_queue(world: DoctorWorld) -> Iterator[None]:
    sqs, url = world.client("sqs"), world.account.queue_url
    given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    sqs.delete_queue(QueueUrl=url)
    yield
    sqs.create_queue(QueueName=url.rpartition("/")[2], Attributes=given)


@contextlib.contextmanager
def no_queue_policy(world: DoctorWorld) -> Iterator[None]:
    sqs, url = world.client("sqs"), world.account.queue_url
    given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes=given)


@contextlib.contextmanager
def own_key(world: DoctorWorld) -> Iterator[None]:
    key = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d"
    before = world.cloud.cloud.own.volume_key
    world.cloud.call(lambda cloud: setattr(cloud.own, "volume_key", key))
    yield
    world.cloud.call(lambda cloud: setattr(cloud.own, "volume_key", before))


def quota(vcpus: int, market: str) -> Make:
    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        world.cloud.control.set_quota(vcpus, market=market)
        yield
        world.cloud.control.set_quota(None, market=market)

    return make


SPOT, BOUGHT = "spot vCPUs (L-34B43A08)", "on-demand vCPUs (L-1216C47A)"
UNPLANNED = {
    "ec2:CreateLaunchTemplate": "skip",
    "ec2:CreateLaunchTemplateVersion": "skip",
    "ec2:DeleteLaunchTemplateVersions": "skip",
    "ec2:ModifyLaunchTemplate": "skip",
    "ec2:CreateFleet": "skip",
    "ec2:RunInstances": "skip",
    "ec2:CreateTags": "skip",
    "iam:PassRole": "skip",
    "spot vCPUs": "skip",
    "on-demand vCPUs": "skip",
    "Spot prices": "skip",
}

FAULTS = (
    Fault(
        "no quota of Spot", {SPOT: "fail"}, "request-service-quota-increase", make=quota(0, "spot")
    ),
    Fault("few Spot vCPUs", {SPOT: "warn"}, "--quota-code L-34B43A08", make=quota(5, "spot")),
    Fault("no on-demand quota", {BOUGHT: "warn"}, "L-1216C47A", make=quota(0, "on-demand")),
    Fault("no route out", {"routes": "fail"}, "NAT gateway", "no route out", no_route),
    Fault(
        "no public address",
        {"routes": "fail"},
        "NAT gateway",
        "MapPublicIpOnLaunch",
        no_public_address,
    ),
    Fault("endpoints alone", {"routes": "warn"}, "images of ECR", make=endpoints_alone),
    Fault(
        "no DNS",
        {"VPC's DNS": "fail"},
        "modify-vpc-attribute",
        "enableDnsSupport",
        dns("EnableDnsSupport"),
    ),
    Fault(
        "no host names",
        {"VPC's DNS": "warn"},
        "--enable-dns-hostnames",
        "enableDnsHostnames",
        dns("EnableDnsHostnames"),
    ),
    Fault("closed group", {"security groups": "fail"}, "outbound rule", "443", closed_group),
    Fault(
        "IMDSv1 allowed",
        {"instance metadata": "fail"},
        "delete-launch-template",
        "version 2",
        open_metadata,
    ),
    Fault(
        "profile missing",
        {"instance profile": "fail"},
        "DOCKER_JOB_EC2_INSTANCE_PROFILE",
        "NoSuchEntity",
        settings={"DOCKER_JOB_EC2_INSTANCE_PROFILE": "missing"},
    ),
    Fault(
        "profile without role",
        {"instance profile": "fail"},
        "add-role-to-instance-profile",
        make=no_profile_role,
    ),
    Fault(
        "another role expected",
        {"instance profile": "fail"},
        "DOCKER_JOB_INSTANCE_ROLE_ARN",
        settings={"DOCKER_JOB_INSTANCE_ROLE_ARN": "arn:aws:iam::123456789012:role/other"},
    ),
    Fault(
        "EC2 is not trusted",
        {"role's trust": "fail"},
        "instance-trust.json",
        make=trust({"Service": "lambda.amazonaws.com"}),
    ),
    Fault(
        "others are trusted",
        {"role's trust": "warn"},
        "instance-trust.json",
        "123456789012",
        trust({"Service": "ec2.amazonaws.com", "AWS": "arn:aws:iam::123456789012:root"}),
    ),
    Fault(
        "no role of Spot",
        {"Spot's role": "fail"},
        "create-service-linked-role",
        make=no_spot_role,
    ),
    Fault("rule disabled", {"rule": "fail"}, "as its target", "Rebalance", no_rule),
    Fault("half a rule", {"rule": "fail"}, "as its target", "State-change", half_a_rule),
    Fault(
        "queue's policy missing",
        {"queue's policy": "fail"},
        "sqs:SendMessage",
        make=no_queue_policy,
    ),
    Fault(
        "queue missing",
        {"queue": "fail", "sqs:ReceiveMessage": "warn", "sqs:DeleteMessage": "warn"},
        "DOCKER_JOB_INTERRUPTION_QUEUE_URL",
        "does not exist",
        no_queue,
    ),
    Fault(
        "no queue named",
        {"queue": "warn", "sqs:ReceiveMessage": "skip", "sqs:DeleteMessage": "skip"},
        "DOCKER_JOB_INTERRUPTION_QUEUE_URL",
        settings={"DOCKER_JOB_INTERRUPTION_QUEUE_URL": ""},
    ),
    Fault("a key of one's own", {"volumes' key": "warn"}, "kms:CreateGrant", make=own_key),
    Fault(
        "image missing",
        {"image": "fail", **UNPLANNED},
        "DOCKER_JOB_EC2_IMAGE_ID",
        "InvalidAMIID.NotFound",
        settings={"DOCKER_JOB_EC2_IMAGE_ID": "ami-0123456789abcdef0"},
    ),
    Fault(
        "subnet missing",
        {"subnets": "fail", **UNPLANNED},
        "DOCKER_JOB_EC2_SUBNETS",
        "InvalidSubnetID.NotFound",
        settings={"DOCKER_JOB_EC2_SUBNETS": "subnet-0123456789abcdef0"},
    ),
    Fault(
        "group missing",
        {"security groups": "fail"},
        "DOCKER_JOB_EC2_SECURITY_GROUPS",
        "InvalidGroup",
        settings={"DOCKER_JOB_EC2_SECURITY_GROUPS": "sg-0123456789abcdef0"},
    ),
    Fault(
        "disk smaller than the image",
        {"image": "warn"},
        "DOCKER_JOB_EC2_DISK_GIB",
        settings={"DOCKER_JOB_EC2_DISK_GIB": "8"},
    ),
    Fault(
        "API's name unknown",
        {"API's name": "fail"},
        "DOCKER_JOB_API_URL",
        settings={"DOCKER_JOB_API_URL": "https://api.invalid"},
    ),
    Fault(
        "API at this machine",
        {"API's reach": "fail"},
        "DOCKER_JOB_API_URL",
        settings={"AWS_ENDPOINT_URL": ""},
    ),
    Fault(
        "no broker",
        {"broker": "fail"},
        "DOCKER_JOB_BUS_URL",
        settings={"DOCKER_JOB_BUS_URL": "amqp://127.0.0.1:1"},
    ),
)
