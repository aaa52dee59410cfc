"""Protection of the API from web pages, which could call it through a user's browser.

A page has two ways. It may send a request across origins: the browser adds `Origin` to all but
GET and HEAD, and `Sec-Fetch-Site` where the API's URL is trustworthy, such as localhost; the page
can change neither (https://fetch.spec.whatwg.org/#origin-header, https://www.w3.org/TR/fetch-metadata/).
Such a request is refused on every route, save a read with a key in its header: a browser adds no
key by itself. Or the page's own name may resolve to 127.0.0.1 (DNS rebinding): for the browser the
API is then the page's own origin, but `Host` still has its name. So `Host` is checked too, while
there is no key. Clients other than browsers send neither `Origin` nor `Sec-Fetch-Site`. What a
proxy adds (`Forwarded`, `X-Forwarded-Host`) is never read: any client can send it.
"""

import functools
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

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


READS = frozenset({"GET", "HEAD"})

Origin = tuple[str, str, int | None]
"""Scheme, host and port."""

RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class AllowedHosts:
    """Checks requests for what a web page may have sent.

    *names*: hosts allowed beside loopback while there is no key. *origins*: the API's own, beside
    that of the request: a proxy may have ended TLS in front of it.
    """

    names: frozenset[str] = frozenset()
    origins: frozenset[Origin] = frozenset()

    def refusal(self, scheme: str, headers: Headers) -> Denied | None:
        """Return the reason to refuse this request while there is no key, or None.

        421: its Host, 403: its origin.
        """
        hosts = _values(headers.raw, b"host")
        if hosts:  # browsers always send it, and pages cannot remove it (fetch.spec.whatwg.org)
            found = read_host(hosts[0]) if len(hosts) == 1 else None
            if found is None or not (is_loopback(found[0]) or found[0] in self.names):
                return Denied(421, _wrong_host(hosts))
        return self._foreign(scheme, headers.raw)

    def page_refusal(self, scope: Scope) -> Denied | None:
        """Return the reason to refuse this request of a page of another origin (403), or None.

        A read with a key is not refused: the browser shows its answer to no page.
        """
        headers: RawHeaders = scope["headers"]
        if scope["method"] in READS and _has_key(headers):
            return None
        return self._foreign(scope.get("scheme", "http"), headers)

    def _foreign(self, scheme: str, headers: RawHeaders) -> Denied | None:
        for site in _values(headers, b"sec-fetch-site"):
            if site not in OWN_SITES:
                return _denied_page("Sec-Fetch-Site", site)
        for origin in _values(headers, b"origin"):
            found = read_origin(origin)
            if found is None or not (
                found in self.origins or found == _own_origin(scheme, headers)
            ):
                return _denied_page("Origin", origin)
        return None


NO_MORE_HOSTS = AllowedHosts()
"""Only loopback, and the origin that a request itself names as the API's."""


def _values(headers: RawHeaders, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def _has_key(headers: RawHeaders) -> bool:
    return any(each[:7].lower() == "bearer " for each in _values(headers, b"authorization"))


def _own_origin(scheme: str, headers: RawHeaders) -> Origin | None:
    hosts = _values(headers, b"host")
    found = read_host(hosts[0]) if len(hosts) == 1 else None
    return None if found is None else (scheme, found[0], found[1] or DEFAULT_PORTS.get(scheme))


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


def read_origin(text: str) -> Origin | None:
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


def _denied_page(header: str, value: str) -> Denied:
    return Denied(
        403,
        f"the request was sent by a web page of another origin ({header}: "
        f"{value[:SHOWN_CHARACTERS]}): only a read with an API key in its header is answered then",
    )
