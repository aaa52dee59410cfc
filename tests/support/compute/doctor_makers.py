"""How the faults of an installation are made, and ended. `doctor_faults` is the list of them."""

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from rehearsal.account import ROLE
from tests.support.compute.doctor_world import DEPLOYMENT, PATTERN, DoctorWorld

Environ = dict[str, str]
Make = Callable[[DoctorWorld], AbstractContextManager[Environ | None]]
"""It yields the settings of the fault, if they depend on the world."""


@contextlib.contextmanager
def nothing(_world: DoctorWorld) -> Iterator[None]:
    """Do nothing: the settings are the fault."""
    yield


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
def own_name_servers(world: DoctorWorld) -> Iterator[None]:
    """An Active Directory's, say."""
    vpc, ec2 = _vpc(world), _ec2(world)
    servers = {"Key": "domain-name-servers", "Values": ["10.1.0.5", "10.1.1.5"]}
    made = ec2.create_dhcp_options(DhcpConfigurations=[servers])["DhcpOptions"]["DhcpOptionsId"]
    ec2.associate_dhcp_options(VpcId=vpc, DhcpOptionsId=made)
    yield
    ec2.associate_dhcp_options(VpcId=vpc, DhcpOptionsId="default")
    ec2.delete_dhcp_options(DhcpOptionsId=made)


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
def hop_limit_not_set(world: DoctorWorld) -> Iterator[None]:
    name, ec2 = f"docker-job-{DEPLOYMENT}", _ec2(world)
    made = ec2.create_launch_template_version(
        LaunchTemplateName=name,
        SourceVersion="1",
        LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}},
    )["LaunchTemplateVersion"]
    yield
    number = str(made["VersionNumber"])
    ec2.delete_launch_template_versions(LaunchTemplateName=name, Versions=[number])


@contextlib.contextmanager
def endpoints_not_shown(world: DoctorWorld) -> Iterator[None]:
    with endpoints_alone(world), world.forbidden("ec2:DescribeVpcEndpoints"):
        yield


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


def rule_of(pattern: dict[str, Any]) -> Make:
    """Return a maker that gives the rule another pattern."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        events = world.client("events")
        events.put_rule(Name="interruptions", EventPattern=json.dumps(pattern))
        yield
        events.put_rule(Name="interruptions", EventPattern=json.dumps(PATTERN))

    return make


def queue_policy(*statements: dict[str, Any]) -> Make:
    """Return a maker that gives the queue these statements; each is for its ARN and SendMessage."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        sqs, url = world.client("sqs"), world.account.queue_url
        given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        whole = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": given["QueueArn"],
        }
        policy = {"Version": "2012-10-17", "Statement": [{**whole, **each} for each in statements]}
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
        yield
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": given["Policy"]})

    return make


def queue_key(key: str) -> Make:
    """Return a maker that encrypts the queue with *key*."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        sqs, url = world.client("sqs"), world.account.queue_url
        given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
        for each in (key, ""):  # moto forgets a policy that is not given again
            sqs.set_queue_attributes(QueueUrl=url, Attributes={**given, "KmsMasterKeyId": each})
            if each:
                yield

    return make


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


def quota(vcpus: int, market: str, family: str = "") -> Make:
    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        world.cloud.control.set_quota(vcpus, market=market, family=family)
        yield
        world.cloud.control.set_quota(None, market=market, family=family)

    return make
