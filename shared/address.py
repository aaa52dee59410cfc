"""Addresses of servers with a login in them: `scheme://user:password@host:port/path?query`."""

from urllib.parse import quote, urlsplit, urlunsplit


def with_login(url: str, user: str, password: str) -> str:
    """*url* as *user* with *password*, whatever login it held before."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))
