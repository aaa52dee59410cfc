"""The registries that jobs may name: a pull is a request from the network of its machine.

The engine connects to whatever host `docker_image` names. On a machine that others' jobs use, that
would let a job reach services that only the machine reaches: its loopback, the metadata service,
the private network. So addresses of these kinds are refused: here if they are written in the
reference, and by the agent, which gets the same networks with its claim, if a name resolves to
them. (Were names resolved here, the answer would show any caller what the API's network resolves.)

Networks: https://www.iana.org/assignments/iana-ipv4-special-registry/ and `iana-ipv6-…`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from shared.settings import PREFIX
from shared.url import without_brackets

SETTING = f"{PREFIX}REGISTRIES_ALLOWED"

LOOPBACK, LINK_LOCAL, PRIVATE = "loopback", "link-local", "private"

NETWORKS: dict[str, tuple[str, ...]] = {
    # Linux connects to itself for 0.0.0.0/8 and for ::.
    LOOPBACK: ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128"),
    # And the clouds' services for their own machines that have other addresses:
    # fd00:ec2::254 (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html),
    # 168.63.129.16 (https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16).
    LINK_LOCAL: ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "168.63.129.16/32"),
    # RFC 1918, RFC 6598 (carriers), RFC 6890, RFC 2544, RFC 4193, RFC 3879.
    PRIVATE: (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("192.0.0.0/24", "198.18.0.0/15", "fc00::/7", "fec0::/10"),
    ),
}

LOCAL_NAMES = re.compile(
    r"(?:.+\.)?localhost|localhost[46]?(?:\.localdomain[46]?)?|ip6-(?:localhost|loopback)"
)
"""RFC 6761, section 6.3, and the names of Debian's and Amazon Linux's /etc/hosts."""

_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_PORT = re.compile(r"[0-9]{1,5}")
_ENTRY = re.compile(r"(?:[^:/\[\]]+|\[[^/\[\]]+\])(?::[0-9]{1,5})?")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class BadRegistry(Exception):
    """An entry of the setting that cannot be read; the text gives the reason."""


@dataclass(frozen=True)
class RegistryRules:
    """The registries that jobs may name.

    *refused* are kinds of addresses. *allowed* are exceptions, as `read_allowed` gives them.
    """

    refused: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    @cached_property
    def refused_networks(self) -> tuple[str, ...]:
        """The networks of all refused kinds, for the agent: with IPv6 forms of IPv4 ones."""
        return tuple(str(each) for kind in self.refused for each in _NETWORKS[kind])

    @cached_property
    def _allowed_networks(self) -> tuple[Network, ...]:
        return tuple(ip_network(each) for each in self.allowed if "/" in each)

    def fault_of(self, host: str) -> str | None:
        """Return why a registry's *host*, perhaps with a port, is refused; None if it is not.

        Of names it knows those that stand for the machine itself, whoever resolves them.
        """
        name, port = split_host(host)
        address = _read_address(name)
        if address is None and _NUMERIC.fullmatch(name):
            return (
                f"its registry {name} is a number, which programs read as different addresses: "
                "write an IPv4 address as four decimal numbers, like 203.0.113.5"
            )
        if name in self.allowed or f"{name}{port}" in self.allowed:
            return None
        kind = self._kind_of_name(name) if address is None else self._kind_of(address)
        if kind is None:
            return None
        allow = "" if LINK_LOCAL in kind else f", or add {name}{port} to {SETTING}"
        return (
            f"its registry {name} is {kind}, and this deployment refuses {self.described}: name "
            f"another registry{allow}"
        )

    @property
    def described(self) -> str:
        """The refused kinds, in words."""
        *others, last = self.refused or ("no",)
        return f"{', '.join(others)} and {last} registries" if others else f"{last} registries"

    def _kind_of(self, address: Address) -> str | None:
        if any(address in each for each in self._allowed_networks):
            return None
        kinds = (kind for kind in self.refused if any(address in each for each in _NETWORKS[kind]))
        kind = next(kinds, None)
        return kind and f"a {kind} address"

    def _kind_of_name(self, name: str) -> str | None:
        if LOOPBACK in self.refused and LOCAL_NAMES.fullmatch(name):
            return "a loopback name"
        if PRIVATE in self.refused and "." not in name:
            return "a private name, without a dot"
        return None


def split_host(host: str) -> tuple[str, str]:
    """Return a host in its one spelling, IPv6 in brackets, and `:port` or nothing."""
    bracketed, bracket, rest = host.rpartition("]")
    name, colon, port = (bracketed + bracket, ":", rest[1:]) if bracket else host.partition(":")
    name = name.lower().removesuffix(".")
    address = _read_address(name)
    if isinstance(address, IPv6Address):
        name = f"[{address}]"
    return name, f"{colon}{int(port)}" if _PORT.fullmatch(port) else ""


def read_allowed(text: str) -> tuple[str, ...]:
    """Read the setting: hosts, hosts with ports, addresses and networks, with commas between.

    Returns each in its one spelling, an address without a port as a network of one. Raises
    `BadRegistry`.
    """
    return tuple(_read_entry(each.strip()) for each in text.split(",") if each.strip())


def _read_entry(entry: str) -> str:
    name, port = split_host(entry)
    network = _read_network(entry if _read_network(entry) else name)
    if network is not None and any(each.overlaps(network) for each in _NETWORKS[LINK_LOCAL]):
        raise BadRegistry(
            f"{entry!r}: it includes link-local addresses, where clouds serve the credentials of "
            "their machines; these cannot be allowed"
        )
    if network is not None and _read_network(entry) == network:
        return str(network)
    if _ENTRY.fullmatch(entry) is None or (network is None and not _is_name(name)):
        raise BadRegistry(
            f"{entry!r}: it must be a host name or address, with or without a port, or a network, "
            "like registry.internal:5000 or 10.0.0.0/8"
        )
    return f"{name}{port}"


def _read_network(text: str) -> Network | None:
    """Read a network, or an address as a network of one; IPv6 with or without brackets."""
    try:
        return ip_network(without_brackets(text))
    except ValueError:
        return None


def _read_address(name: str) -> Address | None:
    try:
        return ip_address(without_brackets(name))
    except ValueError:
        return None


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not _NUMERIC.fullmatch(name)


def _with_ipv6_forms(text: str) -> Iterable[Network]:
    """Yield a network, and of IPv4 the networks of IPv6 that may lead to it.

    Mapped and compatible addresses (RFC 4291, section 2.5.5), NAT64 (RFC 6052), 6to4 (RFC 3056).
    """
    network = ip_network(text)
    yield network
    if isinstance(network, IPv4Network):
        bits, length = int(network.network_address), network.prefixlen
        for prefix in ("::ffff:0:0", "::", "64:ff9b::"):
            yield IPv6Network((int(IPv6Address(prefix)) | bits, 96 + length))
        yield IPv6Network((int(IPv6Address("2002::")) | bits << 80, 16 + length))


_NETWORKS: dict[str, tuple[Network, ...]] = {
    kind: tuple(form for each in texts for form in _with_ipv6_forms(each))
    for kind, texts in NETWORKS.items()
}
