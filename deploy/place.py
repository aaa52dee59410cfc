"""The place of a deployment: the VPC, its public subnets, the zone, the image, existing data."""

import ipaddress
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy import network
from deploy.account import Account
from deploy.refusal import Refusal, code_of

IMAGE = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id"
"""Canonical's parameter for the newest Ubuntu 24.04 LTS (reasons: docs/adr/0009-deployment.md)."""

ARCHITECTURES = {"arm64": "arm64", "x86_64": "amd64"}
SERVICES_TAG = "docker-job:services"
DATA_TAG = "docker-job:snapshots"
MY_ADDRESS = "https://checkip.amazonaws.com"


@dataclass(frozen=True)
class Subnet:
    """A public subnet, its zone and its IPv4 network."""

    subnet_id: str
    zone: str
    cidr: str


def find_vpc(account: Account, wanted: str | None) -> str:
    """Return *wanted* if it exists, by default the region's default VPC. Raises `Refusal`."""
    ec2 = account.client("ec2")
    if wanted:
        try:
            return str(ec2.describe_vpcs(VpcIds=[wanted])["Vpcs"][0]["VpcId"])
        except ClientError as error:
            if not code_of(error).startswith("InvalidVpc"):
                raise
            raise Refusal(f"There is no VPC {wanted} in {account.region}.") from error
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise Refusal(
            f"{account.region} has no default VPC: name one with --vpc vpc-…, or create it "
            "with `aws ec2 create-default-vpc`."
        )
    return str(found[0]["VpcId"])


def public_subnets(account: Account, vpc_id: str) -> list[Subnet]:
    """Return the subnets of *vpc_id* with public addresses, sorted by zone. Raises `Refusal`.

    Instances pull images and call AWS's APIs; without a NAT gateway, which costs more than all of
    docker-job, they need public addresses for that.
    """
    pages = account.client("ec2").get_paginator("describe_subnets")
    with_addresses = [
        each
        for page in pages.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])
        for each in page["Subnets"]
        if each["MapPublicIpOnLaunch"]
    ]
    ways = network.ways_out(account, vpc_id, with_addresses)
    found = [
        Subnet(each["SubnetId"], each["AvailabilityZone"], each["CidrBlock"])
        for each in with_addresses
        if ways[each["SubnetId"]] == network.INTERNET
    ]
    if not found:
        raise Refusal(
            f"{vpc_id} has no public subnet (one with MapPublicIpOnLaunch and a default route to "
            "an internet gateway): name another VPC with --vpc vpc-…"
        )
    return sorted(found, key=lambda each: (each.zone, each.subnet_id))


def choose_subnet(
    account: Account, subnets: Sequence[Subnet], instance_type: str, zone: str | None
) -> Subnet:
    """Choose a subnet whose zone has *instance_type*, in *zone* if given. Raises `Refusal`."""
    answer = account.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
    )
    offered = {each["Location"] for each in answer["InstanceTypeOfferings"]}
    good = [each for each in subnets if each.zone in offered and zone in (None, each.zone)]
    if not good:
        where = zone or f"the zones of the public subnets ({', '.join(s.zone for s in subnets)})"
        raise Refusal(
            f"{instance_type} is not offered in {where}: choose another with --instance-type."
        )
    return good[0]


def balancer_subnets(
    subnets: Sequence[Subnet], zone: str, of_jobs: Collection[str]
) -> list[Subnet]:
    """Return a load balancer's subnets: one in *zone*, one in another. Raises `Refusal`.

    It needs two zones and reaches targets in its zones alone; each more has a public address, which
    is billed
    (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html).
    The API trusts the addresses of these subnets, so those of job instances are the last choice.
    """
    ours_first = sorted(subnets, key=lambda each: (each.zone != zone, each.subnet_id in of_jobs))
    home, others = ours_first[0], [each for each in ours_first if each.zone != zone]
    if not others:
        raise Refusal(
            "A load balancer needs public subnets in two zones: name another VPC (--vpc)."
        )
    return [home, others[0]]


def newest_image(account: Account, instance_type: str) -> str:
    """Return the AMI for the architecture of *instance_type*. Raises `Refusal`."""
    try:
        [answer] = account.client("ec2").describe_instance_types(InstanceTypes=[instance_type])[
            "InstanceTypes"
        ]
    except ClientError as error:
        if code_of(error) != "InvalidInstanceType":
            raise
        raise Refusal(f"EC2 has no instance type {instance_type!r} (--instance-type).") from error
    known = answer["ProcessorInfo"]["SupportedArchitectures"]
    architecture = next((ARCHITECTURES[each] for each in known if each in ARCHITECTURES), None)
    if architecture is None:
        raise Refusal(f"{instance_type} is {known[0]}: choose an arm64 or x86_64 type.")
    name = IMAGE.format(architecture)
    try:
        return str(account.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        raise Refusal(f"{account.region} has no image {name}: choose another region.") from error


def refuse_image(account: Account, image: str, architecture: str) -> None:
    """Raise `Refusal` unless the AMI of job instances exists, is ready, and of *architecture*.

    Whether Docker and Python are on it, only its first instance shows.
    """
    try:
        found = account.client("ec2").describe_images(ImageIds=[image])["Images"]
    except ClientError as error:
        if not code_of(error).startswith("InvalidAMIID"):
            raise
        found = []
    if not found:
        raise Refusal(f"There is no image {image} in {account.region} for this account (--ami).")
    if found[0]["State"] != "available":
        raise Refusal(f"The image {image} is {found[0]['State']}: wait until it is available.")
    if found[0]["Architecture"] != architecture:
        raise Refusal(
            f"The image {image} is for {found[0]['Architecture']}, and EC2_ARCHITECTURE is "
            f"{architecture}: add --set EC2_ARCHITECTURE={found[0]['Architecture']}, or name "
            "another image."
        )


def data_volumes(account: Account, stack: str) -> list[dict[str, Any]]:
    """Return the data volumes of *stack* and of earlier stacks with its name."""
    pages = account.client("ec2").get_paginator("describe_volumes")
    tagged = [{"Name": f"tag:{tag}", "Values": [stack]} for tag in (SERVICES_TAG, DATA_TAG)]
    return [each for page in pages.paginate(Filters=tagged) for each in page["Volumes"]]


def kept_volume(account: Account, stack: str) -> dict[str, Any] | None:
    """Return the volume that a new stack continues with. Raises `Refusal` for several."""
    found = [each for each in data_volumes(account, stack) if each["State"] == "available"]
    if len(found) > 1:
        ids = ", ".join(str(each["VolumeId"]) for each in found)
        raise Refusal(
            f"Earlier stacks named {stack} have left several data volumes ({ids}): keep one of "
            "them (aws ec2 delete-volume for the others), or take another name with --stack."
        )
    return found[0] if found else None


def refuse_no_snapshot(account: Account, snapshot: str) -> None:
    """Raise `Refusal` unless *snapshot* exists and is complete.

    Its content is checked when the instance starts (start.sh).
    """
    try:
        [found] = account.client("ec2").describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    except ClientError as error:
        if not code_of(error).startswith(("InvalidSnapshot", "InvalidParameterValue")):
            raise
        raise Refusal(f"There is no snapshot {snapshot} in {account.region}.") from error
    if found["State"] != "completed":
        raise Refusal(f"The snapshot {snapshot} is {found['State']}: wait until it is completed.")


def allowed_cidr(given: str | None) -> str:
    """Return the network that may reach the API: *given*, or this machine. Raises `Refusal`."""
    try:
        if given:
            return str(ipaddress.IPv4Network(given))
        with urllib.request.urlopen(MY_ADDRESS, timeout=5) as answer:
            return f"{ipaddress.IPv4Address(answer.read().decode('ascii').strip())}/32"
    except (urllib.error.URLError, TimeoutError) as error:
        raise Refusal(
            "This machine's public address is unknown: name the network that may reach the API, "
            "with --allow 203.0.113.7/32"
        ) from error
    except ValueError as error:
        raise Refusal(f"--allow needs an IPv4 network like 203.0.113.0/24: {error}") from error
