"""Fixtures for the API on a real database.

A database of its own for each of its hundred tests costs a quarter of a second; so they share one,
whose rows are deleted behind each of them. A test that changes more than rows takes `fresh_world`.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from operations.migrate import service_dsn
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.postgres.pool import connect, open_database
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports
from tests.conftest import PASSWORDS, at_database, at_server, clone_of
from tests.support.api.api_world import World
from tests.support.api.served_world import SERVED, ServedWorld, served_world
from tests.support.servers.breakable_postgres import postgres

__all__ = ["postgres"]  # a fixture too

EMPTY = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'api'
    LOOP
        EXECUTE format('DELETE FROM api.%I', name);
    END LOOP;
    PERFORM setval(pg_get_serial_sequence('api.jobs', 'id'), 1, false);
END $$
"""


@contextlib.contextmanager
def migrated_database(postgres_server: str, template_database: str) -> Iterator[str]:
    """Return the admin's DSN of a migrated database, until the block is left."""
    name = f"shared_{uuid.uuid4().hex[:12]}"

    asyncio.run(at_server(postgres_server, clone_of(template_database, name)))
    yield at_database(postgres_server, name)
    asyncio.run(at_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def shared_database(postgres_server: str, template_database: str) -> Iterator[str]:
    """Return the admin's DSN of a migrated database that many tests use, one after the other."""
    with migrated_database(postgres_server, template_database) as dsn:
        yield dsn


@pytest.fixture
async def world(
    shared_database: str, clock: VirtualClock, bus: MemoryBus, points: WatchedPoints
) -> AsyncIterator[World]:
    """Make the API with its client, and no rows."""
    db = await open_database(service_dsn(shared_database, "api", PASSWORDS["api"]), "api", clock)
    wakeups = Wakeups(db.dsn, channel="api", identity="test")
    world = World(Ports(db=db, bus=bus, clock=clock, wakeups=wakeups, points=points), clock)
    yield world
    await world.close()
    await db.close()
    conn = await connect(shared_database)
    await conn.execute(EMPTY)
    await conn.close()


@pytest.fixture
async def fresh_world(
    ports_of: Callable[[str], Awaitable[Ports]], clock: VirtualClock
) -> AsyncIterator[World]:
    """Make the API with its client, on the database of `database_url`."""
    world = World(await ports_of("api"), clock)
    yield world
    await world.close()


@pytest.fixture(scope="module")
def served(postgres_server: str, template_database: str) -> Iterator[ServedWorld]:
    """Serve the API by its real server on a database of its own, for clients that block."""
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(database, **SERVED) as served,
    ):
        yield served
