"""A virtual host as the migration leaves it: topology, and a user a service with its rights."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from operations.wiring import PUBLISHES, SERVICES, TOPOLOGY
from shared.bus.rabbitmq import declare, service_url
from tests.support.servers.rabbitmq_kinds import GivenServer, RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost

NAMES = tuple(service.NAME for service in SERVICES)
PASSWORDS = {name: f"bus-{name}" for name in NAMES}


@dataclass(frozen=True)
class Room:
    """The admin's address of it, the management API's, and each service's own."""

    url: str
    management_url: str

    def of(self, name: str) -> str:
        """Return the address as the user of service *name*."""
        return service_url(self.url, name, PASSWORDS[name])


@contextlib.asynccontextmanager
async def migrated_room(server: RabbitServer) -> AsyncIterator[Room]:
    """Make a room on *server*; skip if users cannot be created there."""
    if isinstance(server, GivenServer) or server.management_url is None:
        pytest.skip("a broker that is given is not ours to make users on")
    with fresh_vhost(server) as url:
        await declare(url, server.management_url, TOPOLOGY, PUBLISHES, PASSWORDS)
        yield Room(url, server.management_url)
