"""Registries whose names resolve to where none may be: the agent refuses them before the pull."""

import json
from dataclasses import asdict

import pytest

from agent.docker_job_agent.job import Settings as AgentsSettings
from agent.docker_job_agent.job import read_settings
from agent.docker_job_agent.pull_failures import DEPLOYMENT, DNS
from agent.docker_job_agent.registry_addresses import refusal_of, resolve
from services.api.config import from_settings
from services.api.submission.registries import LINK_LOCAL, LOOPBACK, PRIVATE, RegistryRules
from shared.settings import Settings

HOST = "registry.evil.example:5000"
SHARED = RegistryRules((LOOPBACK, LINK_LOCAL, PRIVATE)).refused_networks
EC2 = RegistryRules((LOOPBACK, LINK_LOCAL)).refused_networks

OF_THE_MACHINE = (
    *("127.0.0.1", "127.0.1.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"),
    *("169.254.169.254", "169.254.170.2", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::1", "168.63.129.16"),
)
PRIVATES = ("10.0.0.5", "172.20.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.5")
PUBLIC = ("203.0.114.5", "8.8.8.8", "2606:4700::1", "64:ff9b::808:808")


@pytest.mark.parametrize(
    ("name", "networks", "refused", "passed"),
    [
        ("shared engine", SHARED, OF_THE_MACHINE + PRIVATES, PUBLIC),
        ("EC2", EC2, OF_THE_MACHINE, PRIVATES + PUBLIC),
        ("one's own", (), (), OF_THE_MACHINE + PRIVATES + PUBLIC),
    ],
)
def test_a_name_that_resolves_to_a_refused_address_is_refused(
    name: str, networks: tuple[str, ...], refused: tuple[str, ...], passed: tuple[str, ...]
) -> None:
    found = [refusal_of(HOST, [address], networks, ()) for address in refused]
    print(f"{name}: {sum(map(bool, found))} of {len(refused)} names refused")
    assert {each and (each.origin, each.permanent) for each in found} <= {(DEPLOYMENT, True)}
    assert [each for each in passed if refusal_of(HOST, [each], networks, ())] == []


def test_one_refused_address_among_others_is_enough_and_none_is_named() -> None:
    refused = refusal_of(HOST, ["8.8.8.8", "10.9.8.7"], SHARED, ())
    assert refused is not None
    assert refused.text == (
        "this deployment does not allow the registry: its address is in a refused network "
        "(see DOCKER_JOB_REGISTRIES_ALLOWED)"
    )


@pytest.mark.parametrize(
    ("host", "addresses", "allowed", "passes"),
    [
        (HOST, ["10.0.0.5"], (HOST,), True),
        (HOST.upper(), ["10.0.0.5"], (HOST,), True),
        (HOST, ["127.0.0.1"], ("registry.evil.example",), True),
        (HOST, [], (HOST,), True),
        (HOST, ["10.0.0.5"], ("registry.evil.example:5001",), False),
        (HOST, ["10.0.0.5"], ("10.0.0.0/24",), True),
        (HOST, ["10.0.0.5", "10.0.1.5"], ("10.0.0.0/24",), False),
        (HOST, ["10.0.0.5"], ("10.0.0.5/32", "fd12::/16"), True),
        ("[0:0::1]:5000", ["::1"], ("[::1]:5000",), True),
        ("[0:0::1]:5000", ["::1"], ("[::1]:5001",), False),
    ],
)
def test_the_exceptions_are_those_of_the_api(
    host: str, addresses: list[str], allowed: tuple[str, ...], *, passes: bool
) -> None:
    assert (refusal_of(host, addresses, SHARED, allowed) is None) is passes


def test_a_name_that_cannot_be_resolved_is_not_left_to_the_engine() -> None:
    failure = refusal_of(HOST, [], SHARED, ())
    assert failure is not None
    assert (failure.origin, failure.permanent) == (DNS, False)
    assert resolve("no-such-name.invalid") == []


@pytest.mark.parametrize(
    "name", ["localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "0.0.0.0"]
)
def test_the_machines_resolver_reads_every_spelling_of_its_own_address(name: str) -> None:
    assert refusal_of(f"{name}:5000", resolve(name), SHARED, ()) is not None


def test_the_agent_reads_the_networks_and_exceptions_that_the_api_sends() -> None:
    given = {
        "DOCKER_JOB_COMPUTE_URL": "docker://",
        "DOCKER_JOB_REGISTRIES_ALLOWED": "localhost:5000,10.0.0.0/8",
    }
    config = from_settings(Settings(given), deployment="ours", token_key="k")
    sent = json.loads(json.dumps(asdict(config.agents.agent)))
    read = read_settings(sent)
    assert read.registries_refused == SHARED
    assert read.registries_allowed == ("localhost:5000", "10.0.0.0/8")


@pytest.mark.parametrize("given", [{}, {"registries_refused": None, "registries_allowed": 7}])
def test_an_api_of_an_earlier_release_refuses_nothing(given: dict[str, object]) -> None:
    assert read_settings(given) == AgentsSettings()
