"""The way of each subnet to the internet, or to AWS's services without it."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared.compute.ec2.doctor.asking import MORE, ask
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.shapes import filters
from shared.findings import FindingGroup

EVERYWHERE = "0.0.0.0/0"
BY_ENDPOINT = ("ecr.api", "ecr.dkr", "s3")
"""The services by whose endpoints an image of ECR is pulled without a way out. Not STS: an instance
signs a call to it, and the API sends that call (docs/agent-protocol.md).
https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
"""
NAME = "routes"
OUT = "a NAT gateway, or an internet gateway in a subnet with public addresses"


async def check_routes(
    found: FindingGroup, scene: Scene, subnets: Sequence[dict[str, Any]]
) -> None:
    """Check that an instance in each of *subnets* reaches a registry."""
    vpcs = sorted({each["VpcId"] for each in subnets})
    outcome = await ask(scene.aws, "DescribeRouteTables", Filters=filters(vpc_id=vpcs))
    if not outcome.is_answer:
        allow = f"to check it, allow ec2:DescribeRouteTables ({MORE})"
        found.add("skip", NAME, outcome.error, allow)
        return
    tables = outcome.answer["RouteTables"]
    troubles = {each["SubnetId"]: trouble_with(each, tables) for each in subnets}
    closed = {name: each for name, each in troubles.items() if each}
    if not closed:
        found.add("ok", NAME, "every subnet has a way out to API and registry")
        return
    text = "; ".join(f"{name}: {each}" for name, each in sorted(closed.items()))
    outcome = await ask(scene.aws, "DescribeVpcEndpoints", Filters=filters(vpc_id=vpcs))
    if not outcome.is_answer:
        allow = f"to check the VPC's endpoints, allow ec2:DescribeVpcEndpoints ({MORE})"
        found.add("skip", NAME, f"{text}; {outcome.error}", allow)
        return
    missing = _missing_endpoints(outcome.answer)
    if not missing:
        do = "use images of ECR alone, and an API inside of the VPC"
        found.add("warn", NAME, f"{text}; ECR is reached by endpoints", do)
        return
    do = f"add a route to {EVERYWHERE}: {OUT}; or endpoints for {', '.join(missing)}"
    found.add("fail", NAME, text, do)


def trouble_with(subnet: dict[str, Any], tables: Iterable[dict[str, Any]]) -> str:
    """Return why an instance in *subnet* reaches nothing outside, or an empty text. Pure.

    https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html: by an internet
    gateway only an instance with a public address gets out.
    """
    routes = [
        each for each in _routes(subnet, tables) if each.get("DestinationCidrBlock") == EVERYWHERE
    ]
    if not routes:
        return "no route out"
    if all(each.get("State") == "blackhole" for each in routes):
        return "its route out leads to nothing (blackhole)"
    gateway = str(routes[0].get("GatewayId") or "")
    if gateway.startswith("igw-") and not subnet.get("MapPublicIpOnLaunch"):
        return "an internet gateway, but instances get no public address (MapPublicIpOnLaunch)"
    return ""


def _routes(subnet: dict[str, Any], tables: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the routes of the subnet's own table, or else of its VPC's main one."""
    main: list[dict[str, Any]] = []
    for table in tables:
        for association in table.get("Associations") or []:
            if association.get("SubnetId") == subnet["SubnetId"]:
                return list(table.get("Routes") or [])
            if association.get("Main") and table["VpcId"] == subnet["VpcId"]:
                main = list(table.get("Routes") or [])
    return main


def _missing_endpoints(answer: dict[str, Any]) -> list[str]:
    names = [
        str(each["ServiceName"])
        for each in answer.get("VpcEndpoints") or []
        if str(each.get("State", "available")).lower() == "available"
    ]
    return [each for each in BY_ENDPOINT if not any(name.endswith(f".{each}") for name in names)]
