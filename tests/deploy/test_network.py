"""The network that deploy.sh accepts: DNS of the VPC, and the ways out of jobs' subnets."""

from typing import Any

import pytest

from tests.deploy.conftest import REGION, MotoCloud, route_to_internet
from tests.deploy.test_refusals import ALLOW, refusal_of
from tests.deploy.test_stack import user_data

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


class Vpc:
    """A VPC of an operator, with one public subnet and one without a public address."""

    def __init__(self, aws: MotoCloud) -> None:
        self.aws, self.ec2 = aws, aws.client("ec2")
        self.id = str(self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"])
        self.ec2.modify_vpc_attribute(VpcId=self.id, EnableDnsHostnames={"Value": True})
        self.public = self.subnet("10.9.1.0/24", address=True)
        self.private = self.subnet("10.9.2.0/24", address=False)
        route_to_internet(aws, self.id)

    def subnet(self, block: str, *, address: bool) -> str:
        made = self.ec2.create_subnet(
            VpcId=self.id, CidrBlock=block, AvailabilityZone=f"{REGION}a"
        )["Subnet"]["SubnetId"]
        self.ec2.modify_subnet_attribute(SubnetId=made, MapPublicIpOnLaunch={"Value": address})
        return str(made)

    def route(self, **target: str) -> None:
        """Give the private subnet a route table of its own, with a default route if *target*."""
        table = self.ec2.create_route_table(VpcId=self.id)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=self.private)
        if target:
            self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **target)

    def nat(self) -> str:
        address = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        made = self.ec2.create_nat_gateway(SubnetId=self.public, AllocationId=address)
        return str(made["NatGateway"]["NatGatewayId"])

    def endpoints(self, *services: str) -> None:
        for service in services:
            self.ec2.create_vpc_endpoint(
                VpcId=self.id,
                ServiceName=f"com.amazonaws.{REGION}.{service}",
                VpcEndpointType="Gateway" if service == "s3" else "Interface",
            )

    def deploy(self, *more: str) -> Any:
        return self.aws.deploy(*ALLOW, "--dry-run", "--vpc", self.id, *more)


@pytest.fixture
def vpc(aws: MotoCloud) -> Vpc:
    return Vpc(aws)


@pytest.mark.parametrize(
    ("attribute", "option"),
    [
        ("EnableDnsHostnames", "--enable-dns-hostnames"),
        ("EnableDnsSupport", "--enable-dns-support"),
    ],
)
def test_a_vpc_whose_instances_cannot_resolve_the_name_is_refused_with_the_command(
    vpc: Vpc, attribute: str, option: str
) -> None:
    vpc.ec2.modify_vpc_attribute(VpcId=vpc.id, **{attribute: {"Value": False}})
    line = refusal_of(vpc.deploy())
    command = f"aws ec2 modify-vpc-attribute --region {REGION} --vpc-id {vpc.id} {option}"
    assert f"`{command}`" in line
    assert vpc.aws.client("s3").list_buckets()["Buckets"] == [], "nothing was made"


def test_private_subnets_with_a_nat_gateway_are_for_job_instances_and_kept(
    aws: MotoCloud, vpc: Vpc
) -> None:
    vpc.route(NatGatewayId=vpc.nat())
    run = aws.deploy(*ALLOW, "--vpc", vpc.id, "--job-subnets", vpc.private)
    assert run.returncode == 0, run.stderr
    assert f"DOCKER_JOB_EC2_SUBNETS={vpc.private}\n" in user_data(aws)
    assert f"EC2_SUBNETS={vpc.private}" in aws.deploy("--dry-run").stdout, "kept by updates"
    again = aws.deploy("--job-subnets", "public")
    assert again.returncode == 0, again.stderr
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    now = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (now["JobSubnets"], now["Settings"]) == (vpc.public, "{}")


def test_a_subnet_behind_an_internet_gateway_without_public_addresses_is_refused(vpc: Vpc) -> None:
    line = refusal_of(vpc.deploy("--job-subnets", vpc.private))
    assert f"{vpc.private} routes to an internet gateway" in line
    assert "--map-public-ip-on-launch" in line


def test_a_subnet_without_a_way_out_needs_endpoints(vpc: Vpc) -> None:
    vpc.route()
    vpc.endpoints("s3", "ecr.api")
    line = refusal_of(vpc.deploy("--job-subnets", vpc.private))
    assert f"{vpc.private} has no default route, and the VPC has no endpoints for ecr.dkr:" in line
    vpc.endpoints("ecr.dkr")
    run = vpc.deploy("--job-subnets", vpc.private)
    assert run.returncode == 0, run.stderr
    assert "pull images from this region's ECR alone" in run.stderr


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("subnet-0123456789abcdef0", "subnet-0123456789abcdef0"),
        ("vpc-1", "--job-subnets has 'vpc-1': it must be a list like subnet-"),
        (",", "--job-subnets has ',': it must be a list like subnet-"),
    ],
)
def test_subnets_that_do_not_exist_are_named(vpc: Vpc, given: str, text: str) -> None:
    assert text in refusal_of(vpc.deploy("--job-subnets", given))


def test_subnets_of_another_vpc_are_refused(aws: MotoCloud, vpc: Vpc) -> None:
    line = refusal_of(aws.deploy(*ALLOW, "--dry-run", "--job-subnets", vpc.public))
    assert f"--job-subnets: {vpc.public} is not in vpc-" in line


def test_public_subnets_without_a_route_to_the_internet_are_none(vpc: Vpc) -> None:
    vpc.ec2.modify_subnet_attribute(SubnetId=vpc.private, MapPublicIpOnLaunch={"Value": True})
    vpc.route(NatGatewayId=vpc.nat())
    run = vpc.deploy()
    assert run.returncode == 0, run.stderr
    [main] = [
        each
        for each in vpc.ec2.describe_route_tables()["RouteTables"]
        if each["VpcId"] == vpc.id and any(one.get("Main") for one in each["Associations"])
    ]
    vpc.ec2.delete_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    assert f"{vpc.id} has no public subnet" in refusal_of(vpc.deploy())
