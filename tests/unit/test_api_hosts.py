"""Requests that an API without a key refuses, since a web page may be behind them."""

import pytest
from starlette.datastructures import Headers

from services.api.config import ApiConfig, from_settings
from services.api.http.hosts import AllowedHosts
from shared.settings import BadSetting, Settings

CONFIGURED = AllowedHosts(frozenset({"api", "jobs.example.com", "192.168.1.5", "fd00::7"}))


def status(*headers: tuple[str, str], scheme: str = "http") -> int | None:
    """Return the status that refuses a request with these headers; None: it is not refused."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    refusal = CONFIGURED.refusal(scheme, Headers(raw=raw))
    return None if refusal is None else refusal.status


LOOPBACK = (
    "localhost", "localhost:8000", "LocalHost:8000", "localhost.", "localhost.:8000", "localhost:",
    "app.localhost", "127.0.0.1", "127.0.0.1:8000", "127.8.9.1:1", "[::1]", "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:8000",
)  # fmt: skip
LISTED = (
    "api", "api:8000", "API.", "jobs.example.com", "JOBS.example.com.:443", "192.168.1.5:8000",
    "[fd00::7]", "[FD00:0::7]:8000",
)  # fmt: skip
FOREIGN = (
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
    "evillocalhost", "notapi", "api.evil.example", "10.0.0.1", "0.0.0.0", "[::]", "[::2]",
    "[fd00::8]", "1.127.0.0",
)  # fmt: skip
MALFORMED = (
    "", " ", ":", ":8000", "::1", "[::1", "::1]", "[]", "[localhost]", "[127.0.0.1]", "[:::]",
    "localhost:http", "localhost:8000:8000", "localhost:80000000", "localhost@evil.example",
    "evil.example@localhost", "localhost,evil.example", "localhost evil.example", "localhost/",
    "localhost#", "localhost\0", "localhost\\", "\xff", "lo\xadcalhost", "http://localhost",
    "localhost:-1", "localhost:\xb2", "127.0.0.1%00", ".", "..", "a." * 5000 + "localhost",
)  # fmt: skip


@pytest.mark.parametrize("host", [*LOOPBACK, *LISTED])
def test_a_loopback_or_configured_host_is_answered(host: str) -> None:
    assert status(("host", host)) is None


@pytest.mark.parametrize("host", [*FOREIGN, *MALFORMED])
def test_any_other_host_is_a_421(host: str) -> None:
    assert status(("host", host)) == 421


def test_a_doubled_host_is_a_421() -> None:
    assert status(("host", "localhost"), ("host", "localhost")) == 421
    assert status(("host", "localhost"), ("host", "evil.example")) == 421


def test_a_client_without_a_host_is_no_browser_and_is_answered() -> None:
    """HTTP/1.0 needs none."""
    assert status() is None
    assert status(("sec-fetch-site", "cross-site")) == 403
    for origin in ("http://evil.example", "null", "http://localhost", ""):
        assert status(("origin", origin)) == 403


def test_the_refusal_says_what_was_sent_and_what_would_be_right() -> None:
    refusal = CONFIGURED.refusal("http", Headers({"host": "evil.example"}))
    assert str(refusal) == (
        "the request's Host is 'evil.example': while there is no API key it must be a loopback "
        "name or address, like localhost, or a host of DOCKER_JOB_ALLOWED_HOSTS or "
        "DOCKER_JOB_API_URL"
    )
    doubled = Headers(raw=[(b"host", b"localhost"), (b"host", b"localhost")])
    assert str(CONFIGURED.refusal("http", doubled)).startswith("the request has 2 Host headers: ")
    foreign = CONFIGURED.refusal("http", Headers({"host": "localhost", "origin": "null"}))
    assert "web page of another origin (Origin: null)" in str(foreign)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("jobs.example.com", "http://jobs.example.com"),
    ],
)
def test_the_apis_own_origin_is_answered(host: str, origin: str) -> None:
    assert status(("host", host), ("origin", origin)) is None


def test_behind_https_the_own_origin_is_https() -> None:
    host = ("host", "jobs.example.com")
    assert status(host, ("origin", "https://jobs.example.com"), scheme="https") is None
    assert status(host, ("origin", "http://jobs.example.com"), scheme="https") == 403
    assert status(host, ("origin", "https://jobs.example.com"), scheme="http") == 403


@pytest.mark.parametrize(
    "origin",
    [
        "null", "NULL", "", "https://evil.example", "http://evil.example:8000", "http://localhost",
        "http://localhost:3000", "https://localhost:8000", "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example", "http://localhost:8000@evil.example",
        "http://localhost:8000/", "http://localhost:8000 https://evil.example", "localhost:8000",
        "//localhost:8000", "file://", "file://localhost:8000", "chrome-extension://abcdef",
        "http://[::1]:8000", "\xff",
    ],
)  # fmt: skip
def test_any_other_origin_is_a_403(origin: str) -> None:
    assert status(("host", "localhost:8000"), ("origin", origin)) == 403


def test_each_of_several_origins_must_be_the_apis_own() -> None:
    host, own = ("host", "localhost"), ("origin", "http://localhost")
    assert status(host, own, own) is None
    assert status(host, own, ("origin", "https://evil.example")) == 403
    assert status(host, ("origin", "null"), own) == 403


@pytest.mark.parametrize(
    ("site", "refused"),
    [
        ("none", None),
        ("same-origin", None),
        ("same-site", 403),
        ("cross-site", 403),
        ("", 403),
        ("none, cross-site", 403),
        ("something-new", 403),
    ],
)
def test_a_request_of_another_site_is_a_403(site: str, refused: int | None) -> None:
    assert status(("host", "localhost"), ("sec-fetch-site", site)) == refused


def test_neither_header_makes_up_for_the_other_or_for_the_host() -> None:
    own = (("origin", "http://localhost"), ("sec-fetch-site", "same-origin"))
    assert status(("host", "localhost"), *own) is None
    assert status(("host", "localhost"), own[0], ("sec-fetch-site", "cross-site")) == 403
    assert status(("host", "localhost"), ("origin", "null"), own[1]) == 403
    rebound = (("origin", "http://evil.example"), ("sec-fetch-site", "same-origin"))
    assert status(("host", "evil.example"), *rebound) == 421


def read(**settings: str) -> ApiConfig:
    environ = {f"DOCKER_JOB_{name}": value for name, value in settings.items()}
    return from_settings(Settings(environ), deployment="ours", token_key="k")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, set()),
        ({"API_URL": "http://api:8000"}, {"api"}),
        ({"API_URL": "https://Jobs.Example.com./prefix"}, {"jobs.example.com"}),
        ({"API_URL": "http://[FD00:0::7]:8000"}, {"fd00::7"}),
        ({"API_URL": "", "ALLOWED_HOSTS": "", "HOST": "", "PUBLISHED_HOST": ""}, set()),
        (
            {"ALLOWED_HOSTS": "jobs.example.com, A.b:8000,[fd00::7],"},
            {"jobs.example.com", "a.b", "fd00::7"},
        ),
        ({"HOST": "192.168.1.5"}, {"192.168.1.5"}),
        ({"HOST": "0.0.0.0", "PUBLISHED_HOST": "192.168.1.5"}, {"192.168.1.5"}),
        ({"HOST": "::", "PUBLISHED_HOST": "[fd00::7]"}, {"fd00::7"}),
        ({"HOST": "0:0::0", "PUBLISHED_HOST": "[::]"}, set()),
    ],
)
def test_configured_are_the_listed_hosts_the_agents_and_where_the_api_listens(
    settings: dict[str, str], names: set[str]
) -> None:
    assert read(**settings).http.hosts.names == names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS has '\\*': it must be host names or addresses"),
        ({"ALLOWED_HOSTS": "https://jobs.example.com"}, "it must be host names or addresses"),
        ({"API_URL": "api:8000"}, "it must be a URL, like http://api:8000"),
        ({"API_URL": "http://[::1:8000"}, "it must be a URL, like http://api:8000"),
        ({"API_URL": "http://api:port"}, "it must be a URL, like http://api:8000"),
        ({"API_URL": "http://me:hush@api"}, "^DOCKER_JOB_API_URL: it must have no login"),
        ({"API_URL": "http://api/?a=b"}, "it must have no query and no fragment"),
    ],
)
def test_an_invalid_host_is_refused_with_a_message(settings: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        read(**settings)


def test_all_bodies_may_hold_at_least_twice_what_one_may() -> None:
    assert read().http.body.total == 32 * 2**20
    assert read(BODY_LIMIT_BYTES="100000000").http.body.total == 200_000_000
    assert read(BODY_LIMIT_BYTES="1024", BODY_BUDGET_BYTES="2048").http.body.total == 2048
    with pytest.raises(BadSetting, match="BODY_BUDGET_BYTES is 2047: it must be at least 2 times"):
        read(BODY_LIMIT_BYTES="1024", BODY_BUDGET_BYTES="2047")
