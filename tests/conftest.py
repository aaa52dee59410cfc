"""Fixtures for every test: a real Postgres, a database for each test, a clock moved by hand.

One server for all workers of a run (the embedded one, or `DOCKER_JOB_TEST_DATABASE_URL`), one
migrated template database, and for each test a clone of it, which takes some ten milliseconds.
"""

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedded.postgres import EmbeddedPostgres
from operations.migrate import migrate_all, service_dsn
from operations.wiring import SERVICES, TOPOLOGY
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.postgres.pool import Database, connect, open_database
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports
from tests.support.run.hooks import (
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_configure_node,
    pytest_unconfigure,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)
from tests.support.run.state import Facts, this_run
from tests.support.servers.rabbitmq_server import broker_to_break, brokers, rabbitmq

__all__ = [
    "broker_to_break",
    "brokers",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_unconfigure",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "rabbitmq",
]  # hooks and fixtures too

PASSWORDS = {service.NAME: f"test-{service.NAME}" for service in SERVICES}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio alone: asyncpg and uvicorn know no other."""
    return "asyncio"


def at_database(dsn: str, database: str) -> str:
    """Return *dsn* with another database's name."""
    before, _, query = dsn.partition("?")
    server = before.rpartition("/")[0]
    return f"{server}/{database}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """Return the admin's DSN of a Postgres that the tests may fill."""
    given = os.environ.get("DOCKER_JOB_TEST_DATABASE_URL")
    return given or this_run().shared("postgres", start_postgres)["dsn"]


def start_postgres() -> Facts:
    """Start one server for all workers. The run's keeper ends it."""
    directory = Path(tempfile.mkdtemp(prefix="docker-job-test-"))
    server = EmbeddedPostgres(directory / "postgres", durable=False)
    this_run().hold(server)
    return {"dsn": server.start()}


@pytest.fixture(scope="session")
def template_database(postgres_server: str) -> str:
    """Return the name of a migrated database to clone."""
    return this_run().shared("template", lambda: make_template(postgres_server))["name"]


def make_template(server: str) -> Facts:
    """Migrate a database once for all workers."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    this_run().note("database", f"{server} {name}")

    async def make() -> None:
        await at_server(server, f"CREATE DATABASE {name}")
        await migrate_all(at_database(server, name), PASSWORDS)

    asyncio.run(make())
    return {"name": name}


async def at_server(server: str, statement: str) -> None:
    """Run what no transaction may hold, as the admin."""
    conn = await connect(server)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


@pytest.fixture
async def database_url(postgres_server: str, template_database: str) -> AsyncIterator[str]:
    """Return the admin's DSN of a fresh migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await at_server(postgres_server, clone_of(template_database, name))
    yield at_database(postgres_server, name)
    await at_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def clone_of(template: str, name: str) -> str:
    """Return the statement that clones a database: by files, in a third of the log's time."""
    return f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands still until the test moves it."""
    return VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
async def service_db(
    database_url: str, clock: VirtualClock
) -> AsyncIterator[Callable[[str], Awaitable[Database]]]:
    """Return a function that opens the database of a service, by name, under its own role."""
    opened: list[Database] = []

    async def open_for(name: str) -> Database:
        dsn = service_dsn(database_url, name, PASSWORDS[name])
        opened.append(await open_database(dsn, name, clock))
        return opened[-1]

    yield open_for
    for db in opened:
        await db.close()


@pytest.fixture
def points() -> WatchedPoints:
    """Return the points that the code under test passes."""
    return WatchedPoints()


@pytest.fixture
def bus() -> MemoryBus:
    """Make a bus with every service's queue, which nothing reads."""
    return MemoryBus(TOPOLOGY)


@pytest.fixture
def ports_of(
    service_db: Callable[[str], Awaitable[Database]],
    clock: VirtualClock,
    bus: MemoryBus,
    points: WatchedPoints,
) -> Callable[[str], Awaitable[Ports]]:
    """Return a function that makes a service's ports; its wake-ups do not travel."""

    async def make(name: str) -> Ports:
        db = await service_db(name)
        wakeups = Wakeups(db.dsn, channel=name, identity="test")
        return Ports(db=db, bus=bus, clock=clock, wakeups=wakeups, points=points)

    return make
