"""The network's settings: DNS of the VPC, and the ways out of its subnets.

The agents resolve the API's name in a private hosted zone, which works only in a VPC with DNS
support and DNS hostnames
(https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/hosted-zone-private-considerations.html).
A job instance must reach the API and the registries of its images: through an internet gateway
with a public address of its own, through a NAT gateway, or through VPC endpoints
(https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html,
https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html). It does not call STS: it
signs a call, by which the API asks STS who it is (docs/agent-protocol.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.refusal import Refusal, code_of

DNS = {"enableDnsSupport": "enable-dns-support", "enableDnsHostnames": "enable-dns-hostnames"}

EVERYWHERE = "0.0.0.0/0"
ENDPOINTS = ("ecr.api", "ecr.dkr", "s3")
"""For a subnet without a way out: images of ECR, whose layers are in S3."""

INTERNET, NAT, NONE = "internet gateway", "NAT gateway", "none"


def refuse_no_dns(account: Account, vpc_id: str) -> None:
    """Raise `Refusal` unless names of private hosted zones resolve in the VPC."""
    ec2 = account.client("ec2")
    off = [
        (attribute, option)
        for attribute, option in DNS.items()
        if not _enabled(ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=attribute))
    ]
    if off:
        # One attribute a call: ModifyVpcAttribute takes no two.
        commands = " && ".join(
            f"aws ec2 modify-vpc-attribute --region {account.region} --vpc-id {vpc_id} --{option}"
            for _, option in off
        )
        raise Refusal(
            f"{vpc_id} has {' and '.join(name for name, _ in off)} off, so instances could not "
            f"resolve the API's name: turn it on with `{commands}`, or name another VPC with --vpc."
        )


def _enabled(answer: Mapping[str, Any]) -> bool:
    return any(
        each.get("Value") is True
        for name, each in answer.items()
        if name in ("EnableDnsSupport", "EnableDnsHostnames")
    )


def job_subnets(account: Account, vpc_id: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the subnets for job instances. Raises `Refusal` where one is not in the VPC."""
    try:
        found = account.client("ec2").describe_subnets(SubnetIds=list(wanted))["Subnets"]
    except ClientError as error:
        if not code_of(error).startswith("InvalidSubnet"):
            raise
        raise Refusal(f"--job-subnets: {error.response['Error']['Message']}") from error
    elsewhere = [each["SubnetId"] for each in found if each["VpcId"] != vpc_id]
    if elsewhere:
        raise Refusal(
            f"--job-subnets: {', '.join(elsewhere)} is not in {vpc_id}, where the API's address "
            "and the security groups are: name subnets of that VPC."
        )
    return sorted(found, key=lambda each: (each["AvailabilityZone"], each["SubnetId"]))


def read_subnets(text: str) -> list[str]:
    """Read `--job-subnets`. Raises `Refusal`."""
    names = [each for each in text.replace(",", " ").split() if each]
    wrong = [each for each in names if not each.startswith("subnet-")]
    if wrong or not names:
        raise Refusal(
            f"--job-subnets has {wrong[0] if wrong else text!r}: it must be a list like "
            "subnet-0a1b2c3d,subnet-4e5f6a7b, or `public` for all public subnets of the VPC."
        )
    return names


def ways_out(account: Account, vpc_id: str, subnets: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the way out of each subnet, by its default route; the main table's is the default."""
    pages = account.client("ec2").get_paginator("describe_route_tables")
    tables = [
        each
        for page in pages.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])
        for each in page["RouteTables"]
    ]
    of_subnet: dict[str, str] = {}
    main = NONE
    for table in tables:
        way = _way(table["Routes"])
        for association in table["Associations"]:
            if association.get("Main"):
                main = way
            if "SubnetId" in association:
                of_subnet[association["SubnetId"]] = way
    return {each["SubnetId"]: of_subnet.get(each["SubnetId"], main) for each in subnets}


def _way(routes: Iterable[Mapping[str, Any]]) -> str:
    for route in routes:
        if route.get("DestinationCidrBlock") != EVERYWHERE or route.get("State") == "blackhole":
            continue
        gateway = str(route.get("GatewayId") or "")
        return INTERNET if gateway.startswith("igw-") else NAT
    return NONE


def refuse_closed(
    account: Account, vpc_id: str, subnets: Sequence[Mapping[str, Any]], *, option: str
) -> list[str]:
    """Raise `Refusal` for a subnet whose instances reach nothing; return warnings.

    An internet gateway forwards only for an instance with a public address, which a job instance
    gets where its subnet has MapPublicIpOnLaunch.
    """
    ways = ways_out(account, vpc_id, subnets)
    for each in subnets:
        if ways[each["SubnetId"]] == INTERNET and not each["MapPublicIpOnLaunch"]:
            raise Refusal(
                f"{option}: {each['SubnetId']} routes to an internet gateway, but gives instances "
                "no public address, so they would reach nothing: turn it on with `aws ec2 "
                f"modify-subnet-attribute --region {account.region} --subnet-id "
                f"{each['SubnetId']} --map-public-ip-on-launch`, or name a subnet with a NAT "
                "gateway."
            )
    closed = [subnet for subnet, way in ways.items() if way == NONE]
    if not closed:
        return []
    missing = [each for each in ENDPOINTS if each not in _endpoints(account, vpc_id)]
    if missing:
        raise Refusal(
            f"{option}: {', '.join(closed)} has no default route, and the VPC has no endpoints "
            f"for {', '.join(missing)}: job instances could not pull images. "
            "Add a NAT gateway, or these endpoints (docs/how-to/deploy-to-aws.md, 'Private "
            "subnets')."
        )
    text = (
        f"{', '.join(closed)} has no default route: job instances there pull images from this "
        "region's ECR alone."
    )
    return [text]


def _endpoints(account: Account, vpc_id: str) -> set[str]:
    """Return the services with an endpoint in the VPC, without `com.amazonaws.<region>.`."""
    pages = account.client("ec2").get_paginator("describe_vpc_endpoints")
    prefix = f".{account.region}."
    return {
        each["ServiceName"].partition(prefix)[2]
        for page in pages.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])
        for each in page["VpcEndpoints"]
        if str(each.get("State", "")).lower() in ("available", "pending")
    }
