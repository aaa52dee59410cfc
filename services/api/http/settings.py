"""The settings of the HTTP room."""

from dataclasses import dataclass, field

from services.api.http.hosts import AllowedHosts

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
    """The settings of the HTTP server and its routes; *requests_per_second* 0: no rate limit.

    *token_key* keys the hashes of idempotent bodies; *list_page* is the most jobs of one page.
    """

    token_key: str = field(repr=False)
    body: BodyBounds
    hosts: AllowedHosts
    requests_per_second: float
    requests_at_once: float
    list_page: int = 1000
