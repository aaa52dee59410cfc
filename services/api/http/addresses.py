"""The address of a client: that of its connection, or what a trusted proxy has recorded.

A proxy appends the address that connected to it to `X-Forwarded-For`; what stands to the left of it
came from the client, who may write anything. So the list is read from the right, up to the first
address that is no trusted proxy. AWS load balancers append, perhaps with a port
(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html);
Caddy replaces the list of a client that it does not trust
(https://caddyserver.com/docs/caddyfile/directives/reverse_proxy#defaults).

`Forwarded` (RFC 7239) is never read: a proxy that does not know it passes on the client's own.
"""

import functools
import ipaddress
from dataclasses import dataclass, field

from starlette.requests import Request

from services.api.keys.sites import Address, read_address
from shared.settings import PREFIX, BadSetting, Settings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORWARDED_FOR = b"x-forwarded-for"
MOST_CHARACTERS = 2000
"""Of a list its right end is read: no chain of proxies writes more, but a client may have."""


@dataclass(frozen=True)
class Addresses:
    """Finds the addresses of clients; *proxies* are the networks whose lists are trusted."""

    proxies: tuple[Network, ...] = field(default=())

    def of(self, request: Request) -> str:
        """Return the client's address; empty: the connection has none."""
        peer = request.client.host if request.client else ""
        if not self.proxies:
            return _canonical(peer)
        lists = [value for name, value in request.scope["headers"] if name == FORWARDED_FOR]
        return _behind(peer, _right_end(b",".join(lists)), self.proxies)


def read_proxies(settings: Settings) -> tuple[Network, ...]:
    """Read the trusted proxies: addresses and networks. Raises `BadSetting`."""
    networks = []
    for each in (settings.text("TRUSTED_PROXIES") or "").split(","):
        if not each.strip():
            continue
        try:
            networks.append(ipaddress.ip_network(each.strip()))
        except ValueError:
            raise BadSetting(
                f"{PREFIX}TRUSTED_PROXIES has {each.strip()!r}: it must be addresses or networks "
                "with commas between them, like 10.0.1.0/24,10.0.2.0/24"
            ) from None
    return tuple(networks)


@functools.lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    found = read_address(text)
    return text if found is None else str(found)


def _right_end(forwarded: bytes) -> bytes:
    """Return the last whole items of a list: a client cannot hide its address behind a long one."""
    if len(forwarded) <= MOST_CHARACTERS:
        return forwarded
    return forwarded[-MOST_CHARACTERS:].partition(b",")[2]


@functools.lru_cache(maxsize=1024)  # a client sends the same list each time
def _behind(peer: str, forwarded: bytes, proxies: tuple[Network, ...]) -> str:
    """Return the right-most address that is no proxy; *peer* if the list is malformed."""
    found = read_address(peer)
    own = peer if found is None else str(found)
    if found is None or not _is_in(found, proxies):
        return own
    last = own
    for text in reversed(forwarded.decode("latin-1").split(",")):
        if not text.strip():
            continue
        found = read_address(text)
        if found is None:
            return own
        last = str(found)
        if not _is_in(found, proxies):
            break
    return last


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in each for each in networks)
