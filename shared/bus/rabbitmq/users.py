"""One RabbitMQ user per service: it writes its own events, reads its own queue, declares nothing.

It may also put dead letters back into its own queue, and into no other.

The migrating user creates them through the management API; no service sees its login.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiohttp

from shared.bus.port import BusUnavailable
from shared.bus.rabbitmq.connection import TopologyError, describe

MANAGEMENT_PORT = 15672
CALL_SECONDS = 10.0


@dataclass(frozen=True)
class ServiceUser:
    """A service's login and its permissions."""

    name: str
    password: str
    queues: tuple[str, ...]
    events: tuple[str, ...]
    exchanges: tuple[str, ...]


def vhost_of(url: str) -> str:
    """Return the virtual host in an AMQP address."""
    return unquote(urlsplit(url).path.removeprefix("/")) or "/"


def service_url(admin_url: str, name: str, password: str) -> str:
    """Make the URL of service *name*: broker and virtual host of *admin_url*, its own login."""
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(name)}:{quote(password, safe='')}@{host}"))


def management_url(admin_url: str) -> str:
    """Make the default URL of the management API: same host and login, port 15672."""
    parts = urlsplit(admin_url)
    login, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    scheme = "https" if parts.scheme == "amqps" else "http"
    return f"{scheme}://{login}{at}{host}:{MANAGEMENT_PORT}"


async def declare_users(url: str, vhost: str, exchange: str, wanted: Sequence[ServiceUser]) -> None:
    """Create *wanted* or update them. Raises `TopologyError`, `BusUnavailable`."""
    async with _management(url) as (session, base):
        for user in wanted:
            for path, body in _calls(user, vhost, exchange):
                await session.put(f"{base}/api/{path}", json=body)


async def bindings_of(url: str, vhost: str, exchange: str) -> dict[str, set[str]]:
    """Return the names that each queue is bound to at *exchange*; empty if there is no such.

    Raises `TopologyError`, `BusUnavailable`.
    """
    place = f"{quote(vhost, safe='')}/{quote(exchange, safe='')}"
    found: dict[str, set[str]] = {}
    async with _management(url) as (session, base):
        path = f"{base}/api/exchanges/{place}/bindings/source"
        async with session.get(path, raise_for_status=False) as answer:
            if answer.status != 404:
                answer.raise_for_status()
                for each in await answer.json():
                    found.setdefault(each["destination"], set()).add(each["routing_key"])
    return found


@contextlib.asynccontextmanager
async def _management(url: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Yield a session and the address of the management API; turn its errors into the bus' own."""
    parts = urlsplit(url)
    auth = aiohttp.encode_basic_auth(unquote(parts.username or ""), unquote(parts.password or ""))
    base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
    try:
        async with aiohttp.ClientSession(
            headers={"Authorization": auth}, timeout=timeout, raise_for_status=True
        ) as session:
            yield session, base
    except aiohttp.ClientResponseError as error:
        if error.status < 500:
            raise TopologyError(
                f"the management API at {base} refuses to create users ({error.status} "
                f"{error.message}): the migrating user needs the tag administrator"
            ) from error
        raise BusUnavailable(f"management API at {base}: {error}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BusUnavailable(f"management API at {base}: {describe(error)}") from error


def _calls(user: ServiceUser, vhost: str, exchange: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the paths and bodies to PUT."""
    place = f"{quote(vhost, safe='')}/{quote(user.name, safe='')}"
    return [
        (f"users/{quote(user.name, safe='')}", {"password": user.password, "tags": ""}),
        (
            f"permissions/{place}",
            {"configure": "^$", "write": _exactly(*user.exchanges), "read": _exactly(*user.queues)},
        ),
        (
            f"topic-permissions/{place}",
            {"exchange": exchange, "write": _exactly(*user.events), "read": "^$"},
        ),
    ]


def _exactly(*names: str) -> str:
    """Make a pattern that matches each of *names* and nothing else."""
    return f"^({'|'.join(re.escape(name) for name in names)})$"
