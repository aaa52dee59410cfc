"""Subnets, security groups, and the DNS of the VPC."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.name_servers import check_name_servers
from shared.compute.ec2.doctor.routes import check_routes
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.shapes import filters
from shared.findings import Finding, FindingGroup

GROUP = "network"
FEW_ADDRESSES = 16


async def network(scene: Scene) -> list[Finding]:
    """Check the subnets and, in their VPC, routes, groups and DNS."""
    found = FindingGroup(GROUP)
    subnets = await _subnets(found, scene)
    if not subnets:
        return found.all
    vpcs = {each["VpcId"] for each in subnets}
    await check_routes(found, scene, subnets)
    await _check_groups(found, scene, vpcs)
    for vpc in sorted(vpcs):
        await _check_dns(found, scene, vpc)
        await check_name_servers(found, scene, vpc)
    await _check_api_address(found, scene, vpcs)
    return found.all


async def _subnets(found: FindingGroup, scene: Scene) -> list[dict[str, Any]]:
    named = list(scene.settings.subnets)
    asked: dict[str, Any] = (
        {"SubnetIds": named} if named else {"Filters": filters(default_for_az=["true"])}
    )
    outcome = await ask(scene.aws, "DescribeSubnets", **asked)
    shown: list[dict[str, Any]] = outcome.answer.get("Subnets") or []
    do = "set DOCKER_JOB_EC2_SUBNETS to subnets of this region"
    if not shown:
        found.add("fail", "subnets", outcome.error or "there is no default VPC", do)
        return []
    empty = [each["SubnetId"] for each in shown if not each.get("AvailableIpAddressCount")]
    free = sum(each.get("AvailableIpAddressCount") or 0 for each in shown)
    zones = {each["AvailabilityZone"] for each in shown}
    text = f"{len(shown)} in {len(zones)} zones, {free} free addresses"
    if len(empty) == len(shown):
        found.add("fail", "subnets", text, "free addresses, or name larger subnets")
    elif free < FEW_ADDRESSES or empty or len({each["VpcId"] for each in shown}) > 1:
        found.add("warn", "subnets", text, "name subnets of one VPC, each with free addresses")
    elif len(zones) == 1:
        found.add("warn", "subnets", text, "more zones have more Spot capacity: name more subnets")
    else:
        found.add("ok", "subnets", text)
    return shown


async def _check_groups(found: FindingGroup, scene: Scene, vpcs: set[str]) -> None:
    named = list(scene.settings.security_groups)
    default = filters(group_name=["default"], vpc_id=sorted(vpcs))
    asked: dict[str, Any] = {"GroupIds": named} if named else {"Filters": default}
    outcome = await ask(scene.aws, "DescribeSecurityGroups", **asked)
    if outcome.is_denied:
        _skip(found, "security groups", outcome, "ec2:DescribeSecurityGroups")
        return
    shown = outcome.answer.get("SecurityGroups") or []
    do = "name groups of the subnets' VPC in DOCKER_JOB_EC2_SECURITY_GROUPS"
    elsewhere = [each["GroupId"] for each in shown if each["VpcId"] not in vpcs]
    if not shown or elsewhere:
        text = f"{', '.join(elsewhere)} in another VPC" if elsewhere else outcome.error
        found.add("fail", "security groups", text, do)
        return
    closed = [port for port in _ports(scene) if not _lets_out(shown, port)]
    names = ", ".join(each["GroupId"] for each in shown)
    if closed:
        ports = " and ".join(str(each) for each in closed)
        text = f"{names} let nothing out to port {ports}"
        found.add("fail", "security groups", text, f"add an outbound rule for TCP {ports}")
    else:
        found.add("ok", "security groups", f"{names} let instances out to registry and API")


def _ports(scene: Scene) -> list[int]:
    """Return the ports that an instance must reach: the registry's and the API's."""
    url = urlsplit(scene.has.api_url)
    return sorted({443, url.port or (443 if url.scheme == "https" else 80)})


def _lets_out(groups: list[dict[str, Any]], port: int) -> bool:
    rules = [rule for each in groups for rule in each.get("IpPermissionsEgress") or []]
    return any(_covers(rule, port) for rule in rules)


def _covers(rule: dict[str, Any], port: int) -> bool:
    targets = ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds")
    if not any(rule.get(each) for each in targets):
        return False
    if rule.get("IpProtocol") == "-1":
        return True
    first, last = rule.get("FromPort", 0), rule.get("ToPort", 65_535)
    return rule.get("IpProtocol") in ("tcp", "6") and bool(first <= port <= last)


async def _check_dns(found: FindingGroup, scene: Scene, vpc: str) -> None:
    """Instances resolve names by the VPC's own server, unless its DHCP options name another.

    https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html
    """
    off = []
    for attribute, field in (
        ("enableDnsSupport", "EnableDnsSupport"),
        ("enableDnsHostnames", "EnableDnsHostnames"),
    ):
        outcome = await ask(scene.aws, "DescribeVpcAttribute", VpcId=vpc, Attribute=attribute)
        if not outcome.is_answer:
            _skip(found, "VPC's DNS", outcome, "ec2:DescribeVpcAttribute")
            return
        if not outcome.answer[field]["Value"]:
            off.append(attribute)
    if not off:
        found.add("ok", "VPC's DNS", f"on in {vpc}")
        return
    do = "; ".join(f"aws ec2 modify-vpc-attribute --vpc-id {vpc} {_option(each)}" for each in off)
    # Without the server no name is resolved; without host names, only private zones are not.
    serious = "enableDnsSupport" in off
    text = f"{' and '.join(off)} off in {vpc}"
    found.add("fail" if serious else "warn", "VPC's DNS", text, do)


def _option(attribute: str) -> str:
    return "--enable-dns-" + ("support" if attribute.endswith("Support") else "hostnames")


async def _check_api_address(found: FindingGroup, scene: Scene, vpcs: set[str]) -> None:
    """A private address of the API must be in the instances' VPC, or be routed there."""
    addresses = [ipaddress.ip_address(each) for each in scene.has.api_addresses]
    private = [each for each in addresses if each.is_private and not each.is_loopback]
    if not private:
        return
    outcome = await ask(scene.aws, "DescribeVpcs", VpcIds=sorted(vpcs))
    if not outcome.is_answer:
        _skip(found, "API's address", outcome, "ec2:DescribeVpcs")
        return
    blocks = [
        ipaddress.ip_network(block["CidrBlock"])
        for each in outcome.answer["Vpcs"]
        for block in each.get("CidrBlockAssociationSet") or []
    ]
    outside = [str(each) for each in private if not any(each in block for block in blocks)]
    if outside:
        text = f"{', '.join(outside)} is private, and not in the instances' VPC"
        do = "set DOCKER_JOB_API_URL to an address that instances reach, or route to this one"
        found.add("warn", "API's address", text, do)
    else:
        found.add("ok", "API's address", f"{private[0]}, in the instances' VPC")


def _skip(found: FindingGroup, name: str, outcome: Outcome, action: str) -> None:
    found.add("skip", name, outcome.error, f"to check it, allow {action} ({MORE})")
