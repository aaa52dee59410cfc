"""Addresses of clients as values, and the unit of them that a limit counts."""

import functools
import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SITE_BITS = 64
"""The least part of an IPv6 address that a network assigns to a site (RFC 6177): it has the rest
for itself, and could use another address for each request."""


def read_address(text: str) -> Address | None:
    """Parse an address with or without a port, brackets or zone; None if it is none.

    An IPv4 address in its IPv6 form (RFC 4291, 2.5.5.2) is the IPv4 address.
    """
    text = text.strip()
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_port(text: str) -> bool:
    digits = text[1:]
    return text[0] == ":" and digits.isascii() and digits.isdecimal() and int(digits) < 65_536


@functools.lru_cache(maxsize=1024)
def site_of(address: str) -> str:
    """Return the unit that a limit counts: an IPv4 address, or the /64 network of an IPv6 one."""
    found = read_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, SITE_BITS), strict=False))
    return address if found is None else str(found)


def is_loopback(address: str) -> bool:
    """Return whether *address* is this machine's own."""
    found = read_address(address)
    return found is not None and found.is_loopback
