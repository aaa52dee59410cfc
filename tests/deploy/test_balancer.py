"""The load balancer of `--certificate`: its zones, and the addresses of the clients behind it."""

from typing import Any

import pytest
from starlette.requests import Request

from deploy.place import Subnet, balancer_subnets
from deploy.refusal import Refusal
from services.api.http.addresses import Addresses, read_proxies
from shared.settings import Settings
from tests.deploy.conftest import MotoCloud, certificate
from tests.deploy.test_stack import user_data

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

ALLOW = ("--allow", "203.0.113.0/24")
NAME = "DOCKER_JOB_TRUSTED_PROXIES"
CLIENT = "203.0.113.7"


def https(aws: MotoCloud) -> tuple[str, ...]:
    """Return the options of a stack with a load balancer."""
    arn = certificate(aws, "jobs.example.com")
    return (*ALLOW, "--domain", "jobs.example.com", "--certificate", arn)


def networks(aws: MotoCloud) -> dict[str, str]:
    """Return the network of each subnet."""
    subnets = aws.client("ec2").describe_subnets()["Subnets"]
    return {each["SubnetId"]: each["CidrBlock"] for each in subnets}


def balancer(aws: MotoCloud) -> dict[str, Any]:
    """Return the stack's load balancer."""
    [found] = aws.client("elbv2").describe_load_balancers()["LoadBalancers"]
    return dict(found)


def trusted(aws: MotoCloud) -> str:
    """Return the services' setting, from the user data."""
    lines = dict(line.partition("=")[::2] for line in user_data(aws).splitlines())
    return lines[NAME]


def counted(proxies: str, peer: str, forwarded: str) -> str:
    """Return the address that the API counts for a request."""
    scope = {
        "type": "http",
        "client": (peer, 40000),
        "headers": [(b"x-forwarded-for", forwarded.encode())],
    }
    return Addresses(read_proxies(Settings({NAME: proxies}))).of(Request(scope))


def test_a_client_behind_the_load_balancer_is_counted_by_its_own_address(aws: MotoCloud) -> None:
    run = aws.deploy(*https(aws))
    assert run.returncode == 0, run.stderr
    zones = balancer(aws)["AvailabilityZones"]
    of_subnet = networks(aws)
    proxies = trusted(aws)
    assert proxies.split(",") == [of_subnet[each["SubnetId"]] for each in zones]

    first, second = (each.rpartition(".")[0] + ".9" for each in proxies.split(","))
    forged = ("", "198.51.100.1, ", "127.0.0.1, ", f"{first}, ", f"{CLIENT}, {second}, ")
    right = [
        counted(proxies, peer, before + CLIENT) == CLIENT
        for peer in (first, second)
        for before in forged
    ]
    print(f"{right.count(True)} of {len(right)} requests are counted for their client")
    assert all(right)


def test_nobody_else_chooses_the_address_that_is_counted(aws: MotoCloud) -> None:
    """Clients and job instances that connect from another subnet than the load balancer's."""
    assert aws.deploy(*https(aws)).returncode == 0
    proxies = trusted(aws)
    others = [each for each in networks(aws).values() if each not in proxies.split(",")]
    peers = [CLIENT, *(each.rpartition(".")[0] + ".9" for each in others)]
    chosen = [peer for peer in peers if counted(proxies, peer, "198.51.100.1") != peer]
    print(f"{len(chosen)} of {len(peers)} clients chose their address")
    assert (len(others) > 1, chosen) == (True, [])


def test_without_a_load_balancer_no_address_is_read_from_a_header(aws: MotoCloud) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    assert trusted(aws) == ""
    for peer in ("172.31.0.9", CLIENT):
        assert counted("", peer, "198.51.100.1") == peer


def test_a_setting_of_ones_own_proxies_replaces_the_load_balancers(aws: MotoCloud) -> None:
    """The start script exports the chosen settings after the stack's."""
    own = "172.31.0.0/16,198.51.100.0/24"
    run = aws.deploy(*https(aws), "--set", f"TRUSTED_PROXIES={own}")
    assert run.returncode == 0, run.stderr
    assert f'"TRUSTED_PROXIES":"{own}"' in user_data(aws)
    refused = aws.deploy(*ALLOW, "--set", "TRUSTED_PROXIES=everybody")
    assert refused.returncode == 1
    assert f"{NAME} has 'everybody'" in refused.stderr


def test_it_is_in_two_zones_the_instances_and_one_more_and_each_has_one_address(
    aws: MotoCloud,
) -> None:
    run = aws.deploy(*https(aws))
    assert "public IPv4 addresses, 3 " in run.stdout
    zones = [each["ZoneName"] for each in balancer(aws)["AvailabilityZones"]]
    [instance] = aws.instances("docker-job:services")
    assert len(set(zones)) == 2
    assert instance["Placement"]["AvailabilityZone"] in zones


A1, A2 = Subnet("subnet-a1", "a", "10.0.1.0/24"), Subnet("subnet-a2", "a", "10.0.2.0/24")
B1, B2 = Subnet("subnet-b1", "b", "10.0.3.0/24"), Subnet("subnet-b2", "b", "10.0.4.0/24")
C1 = Subnet("subnet-c1", "c", "10.0.5.0/24")


@pytest.mark.parametrize(
    ("of_jobs", "chosen"),
    [
        ((), [B1, A1]),
        (("subnet-b1",), [B2, A1]),
        (("subnet-b1", "subnet-a1"), [B2, A2]),
        (("subnet-a1", "subnet-a2"), [B1, C1]),
        (("subnet-a1", "subnet-a2", "subnet-b1", "subnet-b2", "subnet-c1"), [B1, A1]),
    ],
)
def test_the_load_balancer_takes_subnets_without_job_instances_where_it_can(
    of_jobs: tuple[str, ...], chosen: list[Subnet]
) -> None:
    assert balancer_subnets([A1, A2, B1, B2, C1], "b", of_jobs) == chosen


def test_a_load_balancer_needs_two_zones() -> None:
    with pytest.raises(Refusal, match="public subnets in two zones"):
        balancer_subnets([A1, A2], "a", ())
