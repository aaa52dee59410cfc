"""What a web page must not do: command the API that needs no key, through its visitor's browser.

A page has two ways. It may send a request across origins: the browser adds `Origin` and
`Sec-Fetch-Site`, which the page cannot change. Or its own name may resolve to 127.0.0.1 (DNS
rebinding): for the browser the API is then the page's own origin, but `Host` still has its name.
So both are looked at. Clients that are no browser send neither `Origin` nor `Sec-Fetch-Site`.
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
"""No name and port are longer (RFC 1035: 253 and 6); so what is remembered is small."""

DEFAULT_PORTS = {"http": 80, "https": 443}
SHOWN_CHARACTERS = 100

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on
"""What a server may listen on, and no client should name."""

OWN_SITES = frozenset({"none", "same-origin"})
"""Values of `Sec-Fetch-Site` of what a user typed and of the API's own origin. `same-site` is not
among them: to a browser every port of localhost is one site (https://www.w3.org/TR/fetch-metadata/)."""


@dataclass(frozen=True)
class AllowedHosts:
    """Checks requests to the API while there is no key. *names* are allowed beside loopback."""

    names: frozenset[str]

    def refusal(self, scheme: str, headers: Headers) -> Denied | None:
        """Why this request is refused: 421 for its Host, 403 for its origin; None: it is not."""
        sent: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
        for name, value in headers.raw:
            if name in sent:
                sent[name].append(value.decode("latin-1"))
        hosts, own = sent[b"host"], None
        if hosts:  # no browser leaves it out, and no page can (https://fetch.spec.whatwg.org/)
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
    """Name or address, and port, of a Host header; None where it is malformed.

    The name is in small letters and without the root's dot, an address in its shortest form.
    """
    return _read_host(text) if len(text) <= HOST_CHARACTERS else None


@functools.lru_cache(maxsize=256)  # each request has one, and nearly all the same
def _read_host(text: str) -> tuple[str, int | None] | None:
    match = HOST.fullmatch(text)
    return None if match is None else (canonical(match[1]), int(match[2]) if match[2] else None)


def canonical(host: str) -> str:
    """One spelling of each name and address; IPv6 addresses with or without their brackets."""
    bare = without_brackets(host)
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare.lower().removesuffix(".")


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a canonical *host* can only be this machine (names: RFC 6761, section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_origin(text: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an Origin header; None of `null`, a list, or anything else."""
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
