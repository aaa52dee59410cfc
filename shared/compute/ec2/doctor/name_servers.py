"""The DNS servers that instances ask: the VPC's own, unless its DHCP options name others.

Only the VPC's own server, at 169.254.169.253, fd00:ec2::253 and the base of the VPC's first block
plus two, knows names in private hosted zones, and it alone passes every security group.
https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html,
https://docs.aws.amazon.com/vpc/latest/userguide/DHCPOptionSetConcepts.html
"""

import ipaddress
from typing import Any

from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.scene import Scene
from shared.findings import FindingGroup

NAME = "DNS servers"
AMAZONS = ("AmazonProvidedDNS", "169.254.169.253", "fd00:ec2::253")
NO_OPTIONS = "default"
PRIVATE = ".docker-job.internal"
"""The end of the API's name in a stack of deploy.sh, which is in a private hosted zone."""


async def check_name_servers(found: FindingGroup, scene: Scene, vpc: str) -> None:
    """Check that instances ask the VPC's own server; others must forward, and be let out to."""
    outcome = await ask(scene.aws, "DescribeVpcs", VpcIds=[vpc])
    if not outcome.is_answer:
        _skip(found, outcome, "ec2:DescribeVpcs")
        return
    shown: dict[str, Any] = next(iter(outcome.answer["Vpcs"]), {})
    if not shown:
        found.add("skip", NAME, f"EC2 does not show {vpc}")
        return
    resolver = str(ipaddress.ip_network(shown["CidrBlock"])[2])
    options = shown.get("DhcpOptionsId") or NO_OPTIONS
    servers: list[str] = []
    if options != NO_OPTIONS:
        outcome = await ask(scene.aws, "DescribeDhcpOptions", DhcpOptionsIds=[options])
        if not outcome.is_answer:
            _skip(found, outcome, "ec2:DescribeDhcpOptions")
            return
        # Some emulators name a set that they do not show.
        servers = named_servers(next(iter(outcome.answer["DhcpOptions"]), {}))
    if not servers or {*servers} & {*AMAZONS, resolver}:
        found.add("ok", NAME, f"the VPC's own in {vpc}")
        return
    text = f"{options} of {vpc} names {', '.join(servers)}"
    do = (
        f"have them forward {PRIVATE[1:]} to {resolver}, and let the instances' security groups "
        "out to port 53 (UDP and TCP); or associate DHCP options with AmazonProvidedDNS: aws ec2 "
        f"associate-dhcp-options --vpc-id {vpc}"
    )
    # What these servers forward, and `--own-dns on` lets out, is not visible from here.
    found.add("warn", NAME, text, do)


def named_servers(options: dict[str, Any]) -> list[str]:
    """Return the servers that a set of DHCP options names. Pure."""
    return [
        str(value["Value"])
        for each in options.get("DhcpConfigurations") or []
        if each.get("Key") == "domain-name-servers"
        for value in each.get("Values") or []
    ]


def _skip(found: FindingGroup, outcome: Outcome, action: str) -> None:
    found.add("skip", NAME, outcome.error, f"to check it, allow {action} ({MORE})")
