"""Which registries a job may name, by the deployment; a name that resolves is the agent's part."""

import pytest

from services.api.config import ApiConfig, from_settings
from services.api.submission.images import check_image
from services.api.submission.json_body import BadRequest
from services.api.submission.registries import LINK_LOCAL, LOOPBACK, PRIVATE
from shared.settings import BadSetting, Settings

COMPOSE = {"COMPUTE_URL": "docker://", "HOST": "0.0.0.0", "PUBLISHED_HOST": "127.0.0.1"}
EC2 = {"COMPUTE_URL": "ec2://us-east-1"}
OWN = {"COMPUTE_URL": "process://"}

OF_THE_MACHINE = (
    *("localhost/a", "localhost:5000/a", "LOCALHOST:5000/a", "LocalHost:5000/a/b:1"),
    *("a.localhost:5000/a", "A.B.LOCALHOST/a", "localhost.localdomain/a", "ip6-localhost:1/a"),
    *("localhost4:5000/a", "localhost6.localdomain6/a", "ip6-loopback:5000/a"),
    *("127.0.0.1/a", "127.0.0.1:5000/a", "127.1.2.3:80/a", "127.255.255.254/a"),
    *("0.0.0.0/a", "0.0.0.0:5432/a", "0.1.2.3:80/a"),
    *("[::1]/a", "[::1]:5000/a", "[::]:5000/a", "[0:0:0:0:0:0:0:1]:5000/a"),
    *("[0000:0000:0000:0000:0000:0000:0000:0001]:5000/a", "[::0:1]/a"),
    *("[::ffff:7f00:1]:5000/a", "[::FFFF:7F00:0001]/a", "[0:0:0:0:0:ffff:7f00:1]:5000/a"),
    *("[::7f00:1]:5000/a", "[64:ff9b::7f00:1]:5000/a", "[2002:7f00:1::]:80/a"),
    *("127.0.0.1:5000/a@sha256:" + "a" * 64, "localhost:5000/a:1@sha256:" + "a" * 64),
)
LINK_LOCALS = (
    *("169.254.169.254/a", "169.254.169.254:80/latest/meta-data", "169.254.170.2:80/v2"),
    *("169.254.0.1/a", "169.254.255.255:1/a", "168.63.129.16/a"),
    *("[fd00:ec2::254]/a", "[FD00:EC2::254]:80/a", "[fd00:ec2:0:0:0:0:0:254]:80/a"),
    *("[fd00:ec2::23]:80/v1", "[fe80::1]:5000/a", "[febf::1]/a", "[FE80::A]:80/a"),
    *("[::ffff:a9fe:a9fe]:80/a", "[64:ff9b::a9fe:a9fe]:80/a", "[2002:a9fe:a9fe::1]:80/a"),
)
NUMBERS = (
    *("2130706433:5000/a", "0x7f000001:5000/a", "0X7F000001:5000/a", "017700000001:5000/a"),
    *("0177.0.0.1/a", "0177.0.0.1:5000/a", "0x7f.0.0.1/a", "0x7f.1:5000/a", "127.1/a"),
    *("127.0.1:5000/a", "127.000.000.001:5000/a", "010.0.0.1/a", "2852039166:80/a"),
    *("0xa9fea9fe:80/a", "0xA9.0xFE.0xA9.0xFE/a", "0251.0376.0251.0376:80/a", "169.16689662/a"),
    *("0:5000/a", "0.0:5000/a", "127.0.0.1.0x1/a", "256.256.256.256/a", "1.2.3.4.5/a"),
)
PRIVATES = (
    *("10.0.0.1/a", "10.255.255.255:5000/a", "172.16.0.1/a", "172.31.255.255:443/a"),
    *("192.168.0.1:5000/a", "192.168.65.254/a", "100.64.0.1/a", "100.127.255.255:5000/a"),
    *("[fd12:3456::1]:5000/a", "[fc00::1]/a", "[::ffff:a00:1]:5000/a", "[64:ff9b::c0a8:1]/a"),
    *("postgres:5432/a", "rabbitmq:15672/api", "api:8000/jobs", "REGISTRY:5000/a"),
    *("198.18.0.1/a", "100.100.100.200/a", "192.0.0.192/a", "[fec0::1]/a"),
)
PUBLIC = (
    *("alpine", "alpine:3", "library/alpine", "docker.io/a", "index.docker.io/a/b"),
    *("ghcr.io/a/b:1", "quay.io:443/a/b", "registry.example.com:5000/a", "8.8.8.8:5000/a"),
    *("123456789012.dkr.ecr.us-east-1.amazonaws.com/a", "172.32.0.1/a", "172.15.0.1/a"),
    *("100.128.0.1/a", "169.253.0.1/a", "128.0.0.1/a", "11.0.0.1/a", "[2606:4700::1]:5000/a"),
    *("localhost.example.com/a", "notlocalhost.com/a", "127.0.0.1.example.com/a", "1/a", "10/a"),
)


def read(given: dict[str, str]) -> ApiConfig:
    settings = Settings({f"DOCKER_JOB_{name}": value for name, value in given.items()})
    return from_settings(settings, deployment="ours", token_key="k")


def refusal(image: str, settings: dict[str, str]) -> str:
    """Return the message of a 400, empty if the image is accepted."""
    try:
        check_image(image, read(settings).bounds.registries)
    except BadRequest as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "settings", "refused", "passed"),
    [
        ("compose", COMPOSE, (OF_THE_MACHINE, LINK_LOCALS, NUMBERS, PRIVATES), (PUBLIC,)),
        ("unknown", {}, (OF_THE_MACHINE, LINK_LOCALS, NUMBERS, PRIVATES), (PUBLIC,)),
        ("ec2", EC2, (OF_THE_MACHINE, LINK_LOCALS, NUMBERS), (PRIVATES, PUBLIC)),
        ("own", OWN, (NUMBERS,), (OF_THE_MACHINE, LINK_LOCALS, PRIVATES, PUBLIC)),
    ],
)
def test_hostile_references_are_refused_where_others_jobs_run(
    name: str,
    settings: dict[str, str],
    refused: tuple[tuple[str, ...], ...],
    passed: tuple[tuple[str, ...], ...],
) -> None:
    hostile = [image for images in refused for image in images]
    found = {image: refusal(image, settings) for image in hostile}
    print(f"{name}: {sum(map(bool, found.values()))} of {len(hostile)} hostile images refused")
    assert [image for image in hostile if not found[image]] == []
    assert all(each.startswith("docker_image ") for each in found.values())
    assert [image for images in passed for image in images if refusal(image, settings)] == []


def test_a_refusal_names_the_field_what_is_wrong_and_what_would_be_right() -> None:
    assert refusal("LOCALHOST:5000/a", COMPOSE) == (
        "docker_image 'LOCALHOST:5000/a' cannot be pulled: its registry localhost is a loopback "
        "name, and this deployment refuses loopback, link-local and private registries: name "
        "another registry, or add localhost:5000 to DOCKER_JOB_REGISTRIES_ALLOWED"
    )
    assert refusal("169.254.169.254/a", EC2) == (
        "docker_image '169.254.169.254/a' cannot be pulled: its registry 169.254.169.254 is a "
        "link-local address, and this deployment refuses loopback and link-local registries: name "
        "another registry"
    )
    assert refusal("2130706433:5000/a", OWN).endswith(
        "its registry 2130706433 is a number, which programs read as different addresses: write an "
        "IPv4 address as four decimal numbers, like 203.0.113.5"
    )


@pytest.mark.parametrize(
    ("allowed", "passed", "refused"),
    [
        ("localhost:5000", ("LOCALHOST:5000/a",), ("localhost:5001/a", "127.0.0.1:5000/a")),
        ("localhost", ("localhost:5000/a", "localhost/a"), ("a.localhost/a",)),
        (
            "registry, 10.0.0.0/8",
            ("registry:1/a", "10.2.3.4/a", "10.0.0.1:5/a"),
            ("192.168.0.1/a",),
        ),
        ("10.1.2.3", ("10.1.2.3/a", "10.1.2.3:5000/a"), ("10.1.2.4/a", "[::ffff:a01:203]/a")),
        ("10.1.2.3:5000", ("10.1.2.3:5000/a",), ("10.1.2.3/a", "10.1.2.3:5001/a")),
        ("127.0.0.0/8", ("127.0.0.1:5000/a",), ("localhost:5000/a", "[::ffff:7f00:1]/a")),
        ("[FD12:0::1]:5000", ("[fd12::1]:5000/a",), ("[fd12::1]/a", "[fd12::2]:5000/a")),
        ("fd12::/16,", ("[fd12::1]:5000/a",), ("[fd13::1]/a",)),
        ("100.64.0.0/10", ("100.100.100.200/a",), ("169.254.169.254/a",)),
    ],
)
def test_exceptions_are_hosts_ports_addresses_and_networks(
    allowed: str, passed: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    settings = COMPOSE | {"REGISTRIES_ALLOWED": allowed}
    assert [each for each in passed if refusal(each, settings)] == []
    assert [each for each in refused if not refusal(each, settings)] == []


@pytest.mark.parametrize(
    "entry",
    [
        *("http://a.example", "a.example/team", "a b", "*.example.com", "10.1.2.3/8", "x:", "x:y"),
        *("2130706433", "0x7f.1", "[::1", "a:123456", "-a", "10.0.0.0/33", "[fd12::]/16:5"),
    ],
)
def test_an_entry_that_is_none_is_named(entry: str) -> None:
    with pytest.raises(BadSetting) as raised:
        read(COMPOSE | {"REGISTRIES_ALLOWED": f"ghcr.io,{entry}"})
    assert str(raised.value) == (
        f"DOCKER_JOB_REGISTRIES_ALLOWED has {entry!r}: it must be a host name or address, with or "
        "without a port, or a network, like registry.internal:5000 or 10.0.0.0/8"
    )


@pytest.mark.parametrize(
    "entry",
    [
        *("169.254.169.254", "169.254.169.254:80", "0.0.0.0/0", "::/0", "fd00::/8", "fe80::1"),
        *("[fd00:ec2::254]:80", "169.0.0.0/8", "::ffff:0:0/96"),
    ],
)
def test_link_local_addresses_cannot_be_allowed(entry: str) -> None:
    with pytest.raises(BadSetting, match="these cannot be allowed"):
        read(COMPOSE | {"REGISTRIES_ALLOWED": entry})


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (OWN, ()),
        (OWN | {"HOST": "::1"}, ()),
        (OWN | {"HOST": "0.0.0.0"}, (LOOPBACK, LINK_LOCAL, PRIVATE)),
        (COMPOSE, (LOOPBACK, LINK_LOCAL, PRIVATE)),
        (COMPOSE | {"PUBLISHED_HOST": "0.0.0.0"}, (LOOPBACK, LINK_LOCAL, PRIVATE)),
        (EC2, (LOOPBACK, LINK_LOCAL)),
        (
            {"INSTANCE_ROLE_ARN": "arn:aws:iam::123456789012:role/a", "STS_REGION": "us-east-1"},
            (LOOPBACK, LINK_LOCAL),
        ),
        ({"COMPUTE_URL": "sim://?seed=7"}, (LOOPBACK, LINK_LOCAL, PRIVATE)),
        ({}, (LOOPBACK, LINK_LOCAL, PRIVATE)),
    ],
)
def test_what_is_refused_depends_on_whose_machine_pulls(
    settings: dict[str, str], kinds: tuple[str, ...]
) -> None:
    config = read(settings)
    assert config.engine.registries.refused == kinds
    assert bool(config.agents.agent.registries_refused) is bool(kinds)


def test_the_start_shows_what_is_refused_and_the_exceptions() -> None:
    [_, line] = read(
        COMPOSE | {"REGISTRIES_ALLOWED": "localhost:5000,10.0.0.0/8"}
    ).engine.described()
    assert line == (
        "loopback, link-local and private registries are refused, but for localhost:5000, "
        "10.0.0.0/8 (DOCKER_JOB_REGISTRIES_ALLOWED)"
    )
    [_, line] = read(OWN).engine.described()
    assert line == "no registries are refused (DOCKER_JOB_REGISTRIES_ALLOWED)"
