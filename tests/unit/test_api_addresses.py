"""The address of a client, and who may write another one."""

import tracemalloc
from typing import Any

import pytest
from starlette.requests import Request

from services.api.config import from_settings
from services.api.http.addresses import Addresses, _behind
from services.api.keys.sites import is_loopback, site_of
from shared.settings import BadSetting, Settings

BALANCERS = "10.0.1.0/24, 10.0.2.0/24,2001:db8:1::/64"
GUESSER = "198.51.100.7"


def configured(proxies: str = BALANCERS) -> Addresses:
    settings = Settings({"DOCKER_JOB_TRUSTED_PROXIES": proxies})
    return from_settings(settings, deployment="d", token_key="k").http.addresses


def address(addresses: Addresses, peer: str | None, *forwarded: str, **more: str) -> str:
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded]
    headers += [(name.replace("_", "-").encode(), each.encode()) for name, each in more.items()]
    scope: dict[str, Any] = {"type": "http", "headers": headers}
    return addresses.of(Request(scope | {"client": None if peer is None else (peer, 1)}))


SPOOFS: list[tuple[str, tuple[str, ...]]] = [
    # peer, the lists that it sends
    (GUESSER, ("1.2.3.4",)),
    (GUESSER, ("1.2.3.4", "10.0.1.5")),
    (GUESSER, ("127.0.0.1",)),
    (GUESSER, ("",)),
    ("10.0.1.5", (f"1.2.3.4, {GUESSER}",)),  # what a load balancer appends
    ("10.0.1.5", (f"127.0.0.1,10.0.2.9,{GUESSER}",)),
    ("10.0.1.5", ("1.2.3.4", GUESSER)),  # as a second line
    ("10.0.1.5", (f"nonsense, {GUESSER}",)),
    ("10.0.1.5", (f"{GUESSER}:49152",)),  # with its port
    ("10.0.1.5", (f"1.2.3.4,{GUESSER}, 10.0.2.7",)),  # two proxies
    ("::ffff:10.0.1.5", (f"1.2.3.4, ::ffff:{GUESSER}",)),  # a socket of both families
    ("2001:db8:1::5", (f"1.2.3.4, {GUESSER}",)),
    ("10.0.1.5", ("1.2.3.4," * 1000 + GUESSER,)),  # longer than any chain of proxies
    ("10.0.1.5", ("9" * 60_000, GUESSER)),
    ("10.0.1.5", ("9" * 60_000 + f", {GUESSER}, 10.0.2.7",)),
]


def test_no_client_can_choose_its_address() -> None:
    addresses = configured()
    found = [address(addresses, peer, *lists) for peer, lists in SPOOFS]
    print(f"{sum(each != GUESSER for each in found)} of {len(SPOOFS)} forged lists are believed")
    assert found == [GUESSER] * len(SPOOFS)


@pytest.mark.parametrize(
    "malformed",
    [
        "1.2.3.4, unknown",
        "1.2.3.4, _hidden",
        "1.2.3.4, 999.1.1.1",
        "1.2.3.4, 1.2.3.4:port",
        "1.2.3.4, 1.2.3.4:70000",
        "1.2.3.4, [::1",
        "1.2.3.4, é",
        "1.2.3.4, ²",
        "1" * 3000,
        "",
        " , ,",
    ],
)
def test_a_malformed_list_counts_as_the_proxys_own_request(malformed: str) -> None:
    assert address(configured(), "10.0.1.5", malformed) == "10.0.1.5"


def test_what_is_cached_of_long_lists_is_bounded() -> None:
    _behind.cache_clear()
    addresses, tracked = configured(), 1024
    tracemalloc.start()
    for number in range(tracked):
        long = "9" * 60_000 + f", 198.51.{number // 250}.{number % 250}"
        address(addresses, "10.0.1.5", long)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{kept >> 10} KiB are kept of {tracked} lists of 60 kB")
    assert kept < 4 << 20


def test_without_proxies_and_for_other_headers_the_connection_counts() -> None:
    for addresses in (configured(""), configured()):
        more = {"forwarded": "for=1.2.3.4", "x_real_ip": "1.2.3.4", "client_ip": "1.2.3.4"}
        assert address(addresses, GUESSER, "1.2.3.4", **more) == GUESSER
    assert address(configured(), "10.0.1.5", forwarded="for=1.2.3.4") == "10.0.1.5"
    assert address(configured(), None, "1.2.3.4") == ""


def test_an_ipv6_client_behind_a_proxy() -> None:
    for text in ("[2001:db8:9::1]:443", "2001:db8:9::1", "[2001:db8:9::1]"):
        assert address(configured(), "10.0.1.5", text) == "2001:db8:9::1"


def test_a_limit_counts_an_ipv6_network_of_64_bits_as_one() -> None:
    sites = {site_of(f"2001:db8:0:1::{number:x}") for number in range(1000)}
    assert sites == {"2001:db8:0:1::/64"}
    assert site_of("2001:db8:0:2::1") != site_of("2001:db8:0:1::1")
    assert site_of("fe80::1%eth0") == "fe80::/64"
    assert site_of("192.0.2.1") == site_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert site_of("") == ""
    assert [is_loopback(each) for each in ("127.0.0.9", "::1", "::ffff:127.0.0.1")] == [True] * 3
    assert not any(map(is_loopback, ("10.0.0.1", "", "localhost")))


@pytest.mark.parametrize("wrong", ["10.0.0.1/24", "*", "proxy", "10.0.0.0/8;::1", "300.1.1.1"])
def test_a_wrong_setting_is_named(wrong: str) -> None:
    with pytest.raises(BadSetting, match=r"DOCKER_JOB_TRUSTED_PROXIES has .* must be addresses or"):
        configured(wrong)
