"""Protection of an API without keys from web pages, which could call it through a user's browser.

A page has two ways. It may send a request across origins: the browser adds `Origin` and
`Sec-Fetch-Site`, which the page cannot change. Or its own name may resolve to 127.0.0.1 (DNS
rebinding): for the browser the API is then the page's own origin, but `Host` still has its name.
So both are checked. Clients other than browsers send neither `Origin` nor `Sec-Fetch-Site`.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from services.api.keys.access import Denied
from shared.settings import PREFIX
from shared.url import without_brackets

HOST = re.compile(
    r"(\[[0-9a-f]*:[0-9a-f:.]*\]|[a-z0-9._-]+)(?::([0-9]{0,5}))?", re.ASCII | re.IGNORECASE
)
HOST_CHARACTERS = 300
"""No name and port are longer (RFC 1035: 253 and 6); this bounds the caches."""

DEFAULT_PORTS = {"http": 80, "https": 443}
SHOWN_CHARACTERS = 100

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on
"""Addresses to listen on that no client should name."""

OWN_SITES = frozenset({"none", "same-origin"})
"""Values of `Sec-Fetch-Site` for typed addresses and the API's own origin. `same-site` is not
among them: to a browser every port of localhost is one site (https://www.w3.org/TR/fetch-metadata/)."""


@dataclass(frozen=True)
class AllowedHosts:
    """Checks requests to the API while there is no key. *names* are allowed beside loopback."""

    names: frozenset[str]

    def refusal(self, scheme: str, headers: Headers) -> Denied | None:
        """Return the reason to refuse this request (421: its Host, 403: its origin), or None."""
        sent: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
        for name, value in headers.raw:
            if name in sent:
                sent[name].append(value.decode("latin-1"))
        hosts, own = sent[b"host"], None
        if hosts:  # browsers always send it, and pages cannot remove it (fetch.spec.whatwg.org)
            found = read_host(hosts[0]) if len(hosts) == 1 else None
            if found is None or not (is_loopback(found[0]) or found[0] in self.names):
                return Denied(421, _wrong_host(hosts))
            own = (scheme, found[0], found[1] or DEFAULT_PORTS.get(scheme))
        for origin in sent[b"origin"]:
            if own is None or _read_origin(origin) != own:
                return _foreign("Origin", origin)
        for site in sent[b"sec-fetch-site"]:
            if site not in OWN_SITES:
                return _foreign("Sec-Fetch-Site", site)
        return None


def read_host(text: str) -> tuple[str, int | None] | None:
    """Parse a Host header into name or address, and port; return None if it is malformed.

    The name is in lower case without the root's dot, an address in its shortest form.
    """
    return _read_host(text) if len(text) <= HOST_CHARACTERS else None


@functools.lru_cache(maxsize=256)  # nearly all requests have the same
def _read_host(text: str) -> tuple[str, int | None] | None:
    match = HOST.fullmatch(text)
    return None if match is None else (canonical(match[1]), int(match[2]) if match[2] else None)


def canonical(host: str) -> str:
    """Return the one spelling of a name or address; IPv6 with or without its brackets."""
    bare = without_brackets(host)
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare.lower().removesuffix(".")


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a canonical *host* is loopback (names: RFC 6761, section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_origin(text: str) -> tuple[str, str, int | None] | None:
    """Parse scheme, host and port of an Origin header; return None for `null` or a list."""
    scheme, separator, host = text.partition("://")
    found = read_host(host)
    if not separator or found is None:
        return None
    return scheme, found[0], found[1] or DEFAULT_PORTS.get(scheme)


def _wrong_host(hosts: list[str]) -> str:
    if len(hosts) == 1:
        sent = f"the request's Host is {hosts[0][:SHOWN_CHARACTERS]!r}"
    else:
        sent = f"the request has {len(hosts)} Host headers"
    return (
        f"{sent}: while there is no API key it must be a loopback name or address, like localhost, "
        f"or a host of {PREFIX}ALLOWED_HOSTS or {PREFIX}API_URL"
    )


def _foreign(header: str, value: str) -> Denied:
    return Denied(
        403,
        f"the request was sent by a web page of another origin ({header}: "
        f"{value[:SHOWN_CHARACTERS]}): while there is no API key that is refused",
    )
