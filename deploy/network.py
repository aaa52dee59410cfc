"""The subnets of job instances, and their ways out.

A job instance must reach the API and the registries of its images: through an internet
gateway with a public address of its own, through a NAT gateway, or through VPC endpoints
(https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html,
https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html). It does not call STS: it
signs a call, by which the API asks STS who it is (docs/agent-protocol.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from deploy import endpoints
from deploy.account import Account
from deploy.refusal import Refusal, code_of

EVERYWHERE = "0.0.0.0/0"
ENDPOINTS = ("ecr.api", "ecr.dkr", "s3")
"""For a subnet without a way out: images of ECR, whose layers are in S3."""

INTERNET, NAT, NONE = "internet gateway", "NAT gateway", "none"


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
    tables = _tables(account, vpc_id, subnets)
    return {subnet: _way(table.get("Routes", [])) for subnet, table in tables.items()}


def _tables(
    account: Account, vpc_id: str, subnets: Iterable[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the route table of each subnet: its own, or else the VPC's main one."""
    pages = account.client("ec2").get_paginator("describe_route_tables")
    own: dict[str, Mapping[str, Any]] = {}
    main: Mapping[str, Any] = {}
    for page in pages.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}]):
        for table in page["RouteTables"]:
            for association in table["Associations"]:
                if association.get("Main"):
                    main = table
                if "SubnetId" in association:
                    own[association["SubnetId"]] = table
    return {each["SubnetId"]: own.get(each["SubnetId"], main) for each in subnets}


def _way(routes: Iterable[Mapping[str, Any]]) -> str:
    for route in routes:
        if route.get("DestinationCidrBlock") != EVERYWHERE or route.get("State") == "blackhole":
            continue
        gateway = str(route.get("GatewayId") or "")
        return INTERNET if gateway.startswith("igw-") else NAT
    return NONE


def refuse_closed(
    account: Account,
    vpc_id: str,
    subnets: Sequence[Mapping[str, Any]],
    *,
    option: str,
    sessions: bool = False,
    job_group: str = "",
) -> list[str]:
    """Raise `Refusal` for a subnet whose instances reach nothing; return warnings.

    An internet gateway forwards only for an instance with a public address, which a job instance
    gets where its subnet has MapPublicIpOnLaunch. *sessions*: Session Manager is to reach them.
    """
    tables = _tables(account, vpc_id, subnets)
    ways = {subnet: _way(table.get("Routes", [])) for subnet, table in tables.items()}
    _refuse_no_address(account, subnets, ways, option)
    closed = [each for each in subnets if ways[each["SubnetId"]] == NONE]
    if not closed:
        return []
    names = ", ".join(each["SubnetId"] for each in closed)
    services = [*ENDPOINTS, *(endpoints.OF_SESSIONS if sessions else ())]
    table_ids = {subnet: str(table.get("RouteTableId")) for subnet, table in tables.items()}
    lacking = endpoints.missing(account, vpc_id, closed, table_ids, services, job_group)
    if lacking:
        raise Refusal(
            f"{option}: {names} has no default route, and the VPC has no endpoints for it of "
            f"{', '.join(lacking)}: job instances could not pull images"
            + (", or be reached by Session Manager" if sessions else "")
            + ". Add a NAT gateway, or mend these endpoints (docs/how-to/deploy-to-aws.md, "
            "'Private subnets')."
        )
    text = (
        f"{names} has no default route: job instances there pull images from this region's ECR "
        "alone."
    )
    return [text]


def _refuse_no_address(
    account: Account,
    subnets: Sequence[Mapping[str, Any]],
    ways: Mapping[str, str],
    option: str,
) -> None:
    for each in subnets:
        if ways[each["SubnetId"]] == INTERNET and not each["MapPublicIpOnLaunch"]:
            raise Refusal(
                f"{option}: {each['SubnetId']} routes to an internet gateway, but gives instances "
                "no public address, so they would reach nothing: turn it on with `aws ec2 "
                f"modify-subnet-attribute --region {account.region} --subnet-id "
                f"{each['SubnetId']} --map-public-ip-on-launch`, or name a subnet with a NAT "
                "gateway."
            )
