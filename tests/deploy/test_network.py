"""The network that deploy.sh accepts: DNS of the VPC, and the ways out of jobs' subnets."""

import uuid
from typing import Any

import pytest

from deploy.endpoints import trouble_with
from deploy.network import ENDPOINTS
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

    def private_table(self) -> str:
        """Return the id of the private subnet's own route table."""
        [table] = self.ec2.describe_route_tables(
            Filters=[{"Name": "association.subnet-id", "Values": [self.private]}]
        )["RouteTables"]
        return str(table["RouteTableId"])

    def group(self, *, block: str = "10.9.0.0/16", port: int = 443) -> str:
        """Make a security group that lets *block* in on *port*."""
        made = self.ec2.create_security_group(
            GroupName=f"endpoints {uuid.uuid4()}", Description="endpoints", VpcId=self.id
        )["GroupId"]
        rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
        self.ec2.authorize_security_group_ingress(
            GroupId=made, IpPermissions=[rule | {"IpRanges": [{"CidrIp": block}]}]
        )
        return str(made)

    def interfaces(self, *services: str, group: str, private_dns: bool = True) -> list[str]:
        """Make interface endpoints; return their ids."""
        return [
            self.ec2.create_vpc_endpoint(
                VpcId=self.id,
                ServiceName=f"com.amazonaws.{REGION}.{service}",
                VpcEndpointType="Interface",
                SecurityGroupIds=[group],
                PrivateDnsEnabled=private_dns,
            )["VpcEndpoint"]["VpcEndpointId"]
            for service in services
        ]

    def gateway(self, *tables: str) -> str:
        """Make the gateway endpoint of S3, in these route tables."""
        made = self.ec2.create_vpc_endpoint(
            VpcId=self.id,
            ServiceName=f"com.amazonaws.{REGION}.s3",
            VpcEndpointType="Gateway",
            RouteTableIds=list(tables),
        )
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    def name_servers(self, *servers: str) -> None:
        """Have the VPC's DHCP options name these DNS servers."""
        options = [{"Key": "domain-name-servers", "Values": list(servers)}]
        made = self.ec2.create_dhcp_options(DhcpConfigurations=options)["DhcpOptions"]
        self.ec2.associate_dhcp_options(VpcId=self.id, DhcpOptionsId=made["DhcpOptionsId"])

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


INTERFACES = tuple(each for each in ENDPOINTS if each != "s3")


def test_a_subnet_without_a_way_out_needs_endpoints(vpc: Vpc) -> None:
    vpc.route()
    first, *rest = INTERFACES
    vpc.interfaces(first, group=vpc.group())
    line = refusal_of(vpc.deploy("--job-subnets", vpc.private))
    missing = ", ".join([*rest, "s3"])
    assert (
        f"{vpc.private} has no default route, and the VPC has no endpoints for it of {missing}:"
        in line
    )
    vpc.interfaces(*rest, group=vpc.group(port=444))
    vpc.gateway(vpc.private_table())
    line = refusal_of(vpc.deploy("--job-subnets", vpc.private))
    assert "lets 10.9.2.0/24 in on 443" in line
    assert "s3" not in line
    vpc.interfaces(*rest, group=vpc.group(block="10.9.2.0/24"))
    run = vpc.deploy("--job-subnets", vpc.private)
    assert run.returncode == 0, run.stderr
    assert "pull images from this region's ECR alone" in run.stderr


def test_an_endpoint_that_does_not_serve_the_subnet_is_named(vpc: Vpc) -> None:
    vpc.route()
    [endpoint, *_] = vpc.interfaces(*INTERFACES, group=vpc.group(), private_dns=False)
    gateway = vpc.gateway()
    line = refusal_of(vpc.deploy("--job-subnets", vpc.private))
    assert f"{INTERFACES[0]} ({endpoint} has private DNS off)" in line
    table = vpc.private_table()
    assert f"s3 ({gateway} is not in the route table {table})" in line
    vpc.interfaces(*INTERFACES, group=vpc.group())
    vpc.interfaces("s3", group=vpc.group(block="10.0.0.0/8"))
    run = vpc.deploy("--job-subnets", vpc.private)
    assert run.returncode == 0, "an interface for S3 will do: " + run.stderr


def test_session_manager_needs_endpoints_of_its_own(vpc: Vpc) -> None:
    vpc.route()
    vpc.interfaces(*INTERFACES, group=vpc.group())
    vpc.gateway(vpc.private_table())
    on = ("--job-subnets", vpc.private, "--set", "EC2_SESSION_MANAGER=on")
    line = refusal_of(vpc.deploy(*on))
    assert (
        "no endpoints for it of ssm, ssmmessages: job instances could not pull images, or" in line
    )
    vpc.interfaces("ssm", "ssmmessages", group=vpc.group(block="10.9.2.0/23"))
    assert vpc.deploy(*on).returncode == 0


def endpoint(**changes: Any) -> dict[str, Any]:
    usual = {
        "VpcEndpointId": "vpce-1",
        "VpcEndpointType": "Interface",
        "PrivateDnsEnabled": True,
        "Groups": [{"GroupId": "sg-1"}],
    }
    return usual | changes


@pytest.mark.parametrize(
    ("rule", "serves"),
    [
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, True),
        ({"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65_535}, False),
        (
            {
                "IpProtocol": "tcp",
                "FromPort": 443,
                "ToPort": 443,
                "UserIdGroupPairs": [{"GroupId": "sg-jobs"}],
            },
            True,
        ),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}, False),
        ({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, True),
        ({"IpProtocol": "udp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, False),
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.9.2.0/25"}]}, False),
    ],
)
def test_an_endpoint_lets_instances_in_by_block_or_by_their_group(
    rule: dict[str, Any], *, serves: bool
) -> None:
    groups = {"sg-1": {"GroupId": "sg-1", "IpPermissions": [rule]}}
    why = trouble_with(endpoint(), set(), groups, ["10.9.2.0/24"], "sg-jobs")
    assert bool(why) is not serves
    other = endpoint(DnsOptions={"PrivateDnsOnlyForInboundResolverEndpoint": True})
    assert "inbound resolvers alone" in trouble_with(other, set(), groups, [], "")


@pytest.mark.parametrize(
    "servers",
    [
        ("AmazonProvidedDNS",),
        ("169.254.169.253",),
        ("10.9.0.2", "10.9.0.7"),  # the VPC's base plus two is Amazon's
    ],
)
def test_a_vpc_whose_servers_are_amazons_is_accepted(vpc: Vpc, servers: tuple[str, ...]) -> None:
    vpc.name_servers(*servers)
    run = vpc.deploy()
    assert run.returncode == 0, run.stderr


def test_a_vpc_with_dns_servers_of_its_own_is_refused_unless_they_forward(vpc: Vpc) -> None:
    """As in a VPC of an Active Directory: no job's instance would find the API."""
    vpc.name_servers("10.1.0.5", "10.1.1.5")
    line = refusal_of(vpc.deploy())
    assert f"Instances in {vpc.id} ask 10.1.0.5, 10.1.1.5 for names" in line
    assert "associate-dhcp-options" in line
    assert "forward docker-job.internal" in line
    assert "--own-dns on" in line
    run = vpc.aws.deploy(*ALLOW, "--vpc", vpc.id, "--own-dns", "on")
    assert run.returncode == 0, run.stderr
    assert "must forward docker-job.internal to the VPC's resolver, 10.9.0.2" in run.stderr
    update = vpc.aws.deploy("--dry-run")
    assert update.returncode == 0, "kept by updates: " + update.stderr
    assert "10.1.0.5" in refusal_of(vpc.aws.deploy("--dry-run", "--own-dns", "off"))


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
