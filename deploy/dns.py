"""The VPC's DNS: whether instances resolve the API's name, which is in a private hosted zone.

That works only in a VPC with DNS support and DNS hostnames, and only where instances ask Amazon's
resolver: it answers at 169.254.169.253, at fd00:ec2::253, and at the base of the VPC's first block
plus two. DHCP options may name other servers.
https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/hosted-zone-private-considerations.html,
https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html,
https://docs.aws.amazon.com/vpc/latest/userguide/DHCPOptionSetConcepts.html.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

from deploy.account import Account
from deploy.refusal import Refusal

ATTRIBUTES = {
    "enableDnsSupport": "enable-dns-support",
    "enableDnsHostnames": "enable-dns-hostnames",
}
AMAZONS = ("AmazonProvidedDNS", "169.254.169.253", "fd00:ec2::253")

NO_OPTIONS = "default"
"""Stands for the id of the DHCP options where a VPC has none:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateDhcpOptions.html"""


def refuse_no_dns(account: Account, vpc_id: str, *, own_servers: bool) -> list[str]:
    """Raise `Refusal` unless instances in the VPC resolve the API's name; return warnings.

    *own_servers*: the operator answers for the VPC's own DNS servers.
    """
    _refuse_attributes(account, vpc_id)
    [vpc] = account.client("ec2").describe_vpcs(VpcIds=[vpc_id])["Vpcs"]
    resolver = str(ipaddress.ip_network(vpc["CidrBlock"])[2])
    servers = _servers(account, vpc)
    if not servers or set(servers) & {*AMAZONS, resolver}:
        return []
    named = f"Instances in {vpc_id} ask {', '.join(servers)} for names ({vpc['DhcpOptionsId']})"
    if own_servers:
        text = (
            f"{named}: these must forward docker-job.internal to the VPC's resolver, {resolver}. "
            "The security groups let instances out to port 53."
        )
        return [text]
    raise Refusal(
        f"{named}, and only the VPC's resolver ({resolver}) knows the API's name: associate DHCP "
        f"options with AmazonProvidedDNS (`aws ec2 associate-dhcp-options --region "
        f"{account.region} --vpc-id {vpc_id} --dhcp-options-id …`; rules of Route 53 Resolver "
        "forward your own domains), or have these servers forward docker-job.internal to it and "
        "add --own-dns on, or name another VPC with --vpc."
    )


def _servers(account: Account, vpc: Mapping[str, Any]) -> list[str]:
    """Return the DNS servers that the VPC's DHCP options name, if they name any."""
    options = vpc.get("DhcpOptionsId") or NO_OPTIONS
    if options == NO_OPTIONS:
        return []
    [found] = account.client("ec2").describe_dhcp_options(DhcpOptionsIds=[options])["DhcpOptions"]
    return [
        str(value["Value"])
        for each in found["DhcpConfigurations"]
        if each["Key"] == "domain-name-servers"
        for value in each["Values"]
    ]


def _refuse_attributes(account: Account, vpc_id: str) -> None:
    ec2 = account.client("ec2")
    off = [
        (attribute, option)
        for attribute, option in ATTRIBUTES.items()
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
