"""The settings of the HTTP room."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.api.http.addresses import Addresses
from services.api.http.hosts import (
    DEFAULT_PORTS,
    EVERY_ADDRESS,
    AllowedHosts,
    Origin,
    canonical,
    read_host,
)
from services.api.keys.rates import CallerRate
from shared.runtime.http_room import CONNECTIONS
from shared.settings import PREFIX, BadSetting, Settings
from shared.url import trouble_with_base

LARGE_SHARE = 2
"""Large bodies may hold one of this many parts of the budget: see `bodies.py`."""


@dataclass(frozen=True)
class BodyBounds:
    """Limits of a request body: size and time; `total`: the size of all bodies of all processes.

    Sizes in bytes.
    """

    size: int
    seconds: float
    total: int


@dataclass(frozen=True)
class HttpConfig:
    """The settings of the HTTP server and its routes.

    *requests* is the rate of each key, and of agents in proportion; with *limits_open*, also of an
    address while there is no key. *failures* is the rate of an address. *token_key* keys the hashes
    of idempotent bodies; *list_page* is the most jobs of one page, *connections* the most of all
    processes.
    """

    token_key: str = field(repr=False)
    body: BodyBounds
    hosts: AllowedHosts
    addresses: Addresses
    requests: CallerRate
    limits_open: bool
    failures: CallerRate
    list_page: int = 1000
    connections: int = CONNECTIONS


def read_body_bounds(settings: Settings) -> BodyBounds:
    """Read the bounds of bodies. Raises `BadSetting`."""
    size = settings.integer("BODY_LIMIT_BYTES", 4_194_304, least=1024)
    least = LARGE_SHARE * size  # otherwise the largest body could never be read
    total = settings.integer("BODY_BUDGET_BYTES", max(33_554_432, least))
    if total < least:
        raise BadSetting(
            f"{PREFIX}BODY_BUDGET_BYTES is {total}: it must be at least {LARGE_SHARE} times "
            f"{PREFIX}BODY_LIMIT_BYTES, which is {size}"
        )
    seconds = settings.number("BODY_SECONDS", 20, least=0.05)
    return BodyBounds(size=size, seconds=seconds, total=total)


def read_hosts(settings: Settings) -> AllowedHosts:
    """Collect the hosts of the API: listed ones, the agents' URL, and addresses to listen on.

    Raises `BadSetting`.
    """
    names = set()
    for listed in (settings.text("ALLOWED_HOSTS") or "").split(","):
        found = read_host(listed.strip())
        if found is not None:
            names.add(found[0])
        elif listed.strip():
            raise BadSetting(
                f"{PREFIX}ALLOWED_HOSTS has {listed.strip()!r}: it must be host names or addresses "
                "with commas between them, like jobs.example.com"
            )
    url = settings.text("API_URL")
    own: set[Origin] = set()
    if url:
        names.add(_host_of(url))
        parts = urlsplit(url)
        own.add((parts.scheme, _host_of(url), parts.port or DEFAULT_PORTS.get(parts.scheme)))
    listened = (settings.text("HOST"), settings.text("PUBLISHED_HOST"))
    names |= {canonical(each) for each in listened if each}
    return AllowedHosts(frozenset(names - EVERY_ADDRESS), frozenset(own))


def _host_of(url: str) -> str:
    if (trouble := trouble_with_base(url)) is not None:
        shown = "" if "@" in url else f" is {url}"  # a login has a password
        raise BadSetting(f"{PREFIX}API_URL{shown}: {trouble}")
    return canonical(urlsplit(url).hostname or "")
