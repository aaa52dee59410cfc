"""Addresses of servers: URLs with a login, and hosts as sockets and clients need them."""

import ipaddress
from urllib.parse import quote, urlsplit, urlunsplit

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def with_login(url: str, user: str, password: str) -> str:
    """Replace any login in *url* by *user* and *password*."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def without_brackets(host: str) -> str:
    """Remove the brackets of an IPv6 address in a URL, `[::1]`, for a socket."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def local_url(host: str, port: int) -> str:
    """Return the URL on this machine of the HTTP server that listens on *host*, a name or address.

    For a server on every address it is loopback; an IPv6 address is bracketed (RFC 3986, 3.2.2).
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    text = LOOPBACK[address.version] if address.is_unspecified else host
    return f"http://[{text}]:{port}" if address.version == 6 else f"http://{text}:{port}"


def trouble_with_base(url: str) -> str | None:
    """Return the reason why *url* cannot be the base of an HTTP API's paths; None: it can.

    The text may be shown: it does not repeat the URL, which may have a password.
    """
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        return "it must be a URL, like http://api:8000"
    if not complete:
        return "it must be a URL, like http://api:8000"
    if "@" in parts.netloc:
        return "it must have no login: agents send none"
    return "it must have no query and no fragment" if parts.query or parts.fragment else None
