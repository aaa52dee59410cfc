"""Addresses of servers: with a login in them, as sockets take them, and as clients use them."""

import ipaddress
from urllib.parse import quote, urlsplit, urlunsplit

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def with_login(url: str, user: str, password: str) -> str:
    """*url* as *user* with *password*, whatever login it held before."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def without_brackets(host: str) -> str:
    """*host* as a socket takes it: an IPv6 address may be given as in a URL, `[::1]`."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def local_url(host: str, port: int) -> str:
    """Where this machine finds the HTTP server that listens on *host*, a name or an address.

    A server on every address is found on loopback; an IPv6 address is bracketed (RFC 3986, 3.2.2).
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    text = LOOPBACK[address.version] if address.is_unspecified else host
    return f"http://[{text}]:{port}" if address.version == 6 else f"http://{text}:{port}"
