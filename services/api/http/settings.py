"""The settings of the HTTP room."""

from dataclasses import dataclass, field

from services.api.http.addresses import Addresses
from services.api.http.hosts import AllowedHosts
from services.api.keys.rates import CallerRate

LARGE_SHARE = 2
"""Large bodies may hold one of this many parts of the budget: see `bodies.py`."""


@dataclass(frozen=True)
class BodyBounds:
    """Limits of a request body: size and time; `total`: the size of all bodies at once.

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
    of idempotent bodies; *list_page* is the most jobs of one page.
    """

    token_key: str = field(repr=False)
    body: BodyBounds
    hosts: AllowedHosts
    addresses: Addresses
    requests: CallerRate
    limits_open: bool
    failures: CallerRate
    list_page: int = 1000
