"""Refusals of registries whose names lead where none may be, such as the machine itself.

A pull is a request from this machine's network. The API sends the networks that are refused, and
the exceptions; it has refused addresses that a reference names, and leaves names to the machine
that pulls. The engine resolves a name again for itself, so a name that changes between the two is
not caught; and a registry may send the engine on to another address. docs/security.md has both.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Union

from .pull_failures import DEPLOYMENT, DNS, Failure

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class AddressLookup:
    """The lookup of a host's addresses by a thread: a resolver may take many seconds.

    Once it has `ended`, `addresses` are those found, none if the name cannot be resolved.
    """

    def __init__(self, host: str, wake: Callable[[], None]) -> None:
        self.addresses: list[str] = []
        self.ended = False
        self._name = split_host(host)[0]
        self._wake = wake
        threading.Thread(target=self._run, name="lookup", daemon=True).start()

    def _run(self) -> None:
        try:
            self.addresses = resolve(self._name)
        finally:
            self.ended = True
            self._wake()


def resolve(name: str) -> list[str]:
    """Return the addresses of a name or address, as this machine resolves it; none if it cannot.

    It reads the numeric forms of IPv4 addresses too, like 2130706433.
    """
    try:
        found = socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found]


def refusal_of(
    host: str, addresses: list[str], refused: tuple[str, ...], allowed: tuple[str, ...]
) -> Failure | None:
    """Return why a registry's *host*, perhaps with a port, is refused; None if it is not.

    One refused address is enough: the engine may take any. No address is named: that would show
    callers how the names of a private network resolve.
    """
    name, port = split_host(host)
    if name in allowed or f"{name}{port}" in allowed:
        return None
    if not addresses:  # the engine may have another resolver, or a proxy, but none was checked
        return Failure("its address cannot be checked", DNS)
    exceptions = [each for each in allowed if "/" in each]
    for each in map(ipaddress.ip_address, addresses):
        if _is_in(each, refused) and not _is_in(each, exceptions):
            reason = "its address is in a refused network (see DOCKER_JOB_REGISTRIES_ALLOWED)"
            return Failure(reason, DEPLOYMENT, permanent=True)
    return None


def split_host(host: str) -> tuple[str, str]:
    """Return a host in its one spelling, IPv6 in brackets, and `:port` or nothing."""
    bracketed, bracket, rest = host.rpartition("]")
    name, port = (bracketed + bracket, rest[1:]) if bracket else host.partition(":")[::2]
    name = name.lower()
    if bracket:
        name = f"[{ipaddress.IPv6Address(name[1:-1])}]"
    return name.rstrip("."), f":{int(port)}" if port else ""


def _is_in(address: Address, networks: Iterable[str]) -> bool:
    return any(address in ipaddress.ip_network(each) for each in networks)
