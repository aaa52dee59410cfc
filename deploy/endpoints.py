"""The VPC endpoints by which instances in a subnet without a way out reach AWS's services.

An interface endpoint serves an instance where its private DNS is on, so that the service's usual
name leads to it, and its security groups let the instance in on 443. A gateway endpoint serves the
subnets whose route table it is in.
https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html,
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html,
https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-s3.html (an interface for S3).
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deploy.account import Account

OF_SESSIONS = ("ssm", "ssmmessages")
"""For Session Manager. Its agent needs `ec2messages` only before version 3.3.40.0, which the
ECS-optimized image is past:
https://docs.aws.amazon.com/systems-manager/latest/userguide/setup-create-vpc.html"""

HTTPS = 443
READY = ("available", "pending")


def missing(
    account: Account,
    vpc_id: str,
    subnets: Sequence[Mapping[str, Any]],
    tables: Mapping[str, str],
    services: Iterable[str],
    job_group: str = "",
) -> list[str]:
    """Return what *subnets* lack of *services*, each with the reason.

    *tables* are the ids of the subnets' route tables. *job_group* is the security group of job
    instances, empty while the stack has not made it.
    """
    found = _endpoints(account, vpc_id)
    groups = _groups(account, found)
    blocks = [str(each["CidrBlock"]) for each in subnets]
    needed = {tables[each["SubnetId"]] for each in subnets}
    lacking = []
    for service in services:
        among = [each for each in found if _service(account, each) == service]
        reasons = [trouble_with(each, needed, groups, blocks, job_group) for each in among]
        if all(reasons):
            lacking.append(f"{service} ({'; '.join(reasons)})" if reasons else service)
    return lacking


def trouble_with(
    endpoint: Mapping[str, Any],
    tables: set[str],
    groups: Mapping[str, Mapping[str, Any]],
    blocks: Sequence[str],
    job_group: str,
) -> str:
    """Return why the endpoint does not serve the subnets, or an empty text. Pure."""
    name = endpoint["VpcEndpointId"]
    if endpoint.get("VpcEndpointType") == "Gateway":
        left = sorted(tables - {*endpoint.get("RouteTableIds", [])})
        return f"{name} is not in the route table {', '.join(left)}" if left else ""
    dns = endpoint.get("DnsOptions") or {}
    if not endpoint.get("PrivateDnsEnabled"):
        return f"{name} has private DNS off"
    if dns.get("PrivateDnsOnlyForInboundResolverEndpoint"):
        return f"{name} has private DNS for inbound resolvers alone"
    own = [groups[each["GroupId"]] for each in endpoint["Groups"] if each["GroupId"] in groups]
    rules = [rule for each in own for rule in each.get("IpPermissions") or []]
    if all(_lets_in(rules, block, job_group) for block in blocks):
        return ""
    return f"no security group of {name} lets {', '.join(blocks)} in on {HTTPS}"


def _lets_in(rules: Iterable[Mapping[str, Any]], block: str, job_group: str) -> bool:
    """Return whether one rule admits the block, or the job instances' group, on 443."""
    return any(_is_for_https(rule) and _admits(rule, block, job_group) for rule in rules)


def _is_for_https(rule: Mapping[str, Any]) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    is_tcp = rule.get("IpProtocol") in ("tcp", "6")
    return is_tcp and int(rule.get("FromPort", 0)) <= HTTPS <= int(rule.get("ToPort", 65_535))


def _admits(rule: Mapping[str, Any], block: str, job_group: str) -> bool:
    if rule.get("PrefixListIds"):
        return True  # its addresses are not read here: it may hold the subnet's
    if job_group in {pair.get("GroupId") for pair in rule.get("UserIdGroupPairs") or []}:
        return True
    wanted = ipaddress.IPv4Network(block)
    ranges = [
        ipaddress.IPv4Network(each["CidrIp"], strict=False) for each in rule.get("IpRanges") or []
    ]
    return any(wanted.subnet_of(each) for each in ranges)


def _service(account: Account, endpoint: Mapping[str, Any]) -> str:
    """Return the service's name without `com.amazonaws.<region>.`."""
    return str(endpoint["ServiceName"]).partition(f".{account.region}.")[2]


def _endpoints(account: Account, vpc_id: str) -> list[Mapping[str, Any]]:
    pages = account.client("ec2").get_paginator("describe_vpc_endpoints")
    return [
        each
        for page in pages.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])
        for each in page["VpcEndpoints"]
        if str(each.get("State", "")).lower() in READY
    ]


def _groups(
    account: Account, endpoints: Iterable[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the endpoints' security groups, by id."""
    ids = sorted({group["GroupId"] for each in endpoints for group in each.get("Groups") or []})
    if not ids:
        return {}
    pages = account.client("ec2").get_paginator("describe_security_groups")
    return {
        each["GroupId"]: each
        for page in pages.paginate(GroupIds=ids)
        for each in page["SecurityGroups"]
    }
