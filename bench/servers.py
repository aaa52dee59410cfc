"""Postgres and RabbitMQ for a run: given by URL, or temporary containers.

DOCKER_JOB_BENCH_DATABASE_URL                   a superuser's DSN, with track_commit_timestamp on
DOCKER_JOB_BENCH_BUS_URL, …_BUS_MANAGEMENT_URL  an administrator of the broker, AMQP and HTTP

Without them a Docker engine of this machine runs both. Without an engine the embedded Postgres is
used, and the broker must be given. Containers are reached at their own addresses: a published port
would add the engine's proxy to each figure.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp

from bench.cpu import find
from embedded.postgres import EmbeddedPostgres
from shared.postgres.pool import Connection, connect

DATABASE_URL = "DOCKER_JOB_BENCH_DATABASE_URL"
BUS_URL = "DOCKER_JOB_BENCH_BUS_URL"
MANAGEMENT_URL = "DOCKER_JOB_BENCH_BUS_MANAGEMENT_URL"

POSTGRES_IMAGE = "postgres:17"
RABBITMQ_IMAGE = "rabbitmq:4-management"
LOGIN = "bench"
START_SECONDS = 120.0


class Missing(Exception):
    """A server is unavailable. The message says what to set."""


@dataclass(frozen=True)
class Servers:
    """The administrators' addresses, and the servers' versions."""

    database_url: str
    bus_url: str
    management_url: str
    versions: dict[str, str]


@contextlib.asynccontextmanager
async def open_servers() -> AsyncIterator[Servers]:
    """Run both servers for the length of the block. Raises `Missing`."""
    async with _rabbitmq() as (bus_url, management_url), _postgres() as database_url:
        postgres = await _patiently(lambda: _postgres_version(database_url))
        rabbitmq = await _patiently(lambda: _rabbitmq_version(management_url))
        versions = {"Postgres": postgres, "RabbitMQ": rabbitmq}
        yield Servers(database_url, bus_url, management_url, versions)


@contextlib.asynccontextmanager
async def _postgres() -> AsyncIterator[str]:
    given = os.environ.get(DATABASE_URL)
    if given:
        yield given
    elif await _engine_answers():
        environment = {"POSTGRES_PASSWORD": LOGIN}
        command = ["postgres", "-c", "track_commit_timestamp=on", "-c", "max_connections=200"]
        async with _container(POSTGRES_IMAGE, environment, command) as address:
            yield f"postgresql://postgres:{LOGIN}@{address}:5432/postgres"
    else:
        async with _embedded() as url:
            yield url


@contextlib.asynccontextmanager
async def _embedded() -> AsyncIterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="docker-job-bench-"))
    server = EmbeddedPostgres(directory / "postgres")
    try:
        conn = await connect(await asyncio.to_thread(server.start))
        await conn.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        await conn.close()
        await asyncio.to_thread(server.stop)
        yield await asyncio.to_thread(server.start)
    finally:
        await asyncio.to_thread(server.stop)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def _rabbitmq() -> AsyncIterator[tuple[str, str]]:
    given, management = os.environ.get(BUS_URL), os.environ.get(MANAGEMENT_URL)
    if given and management:
        yield given, management
    elif not given and await _engine_answers():
        login = {"RABBITMQ_DEFAULT_USER": LOGIN, "RABBITMQ_DEFAULT_PASS": LOGIN}
        async with _container(RABBITMQ_IMAGE, login, []) as address:
            yield (
                f"amqp://{LOGIN}:{LOGIN}@{address}:5672",
                f"http://{LOGIN}:{LOGIN}@{address}:15672",
            )
    else:
        raise Missing(f"no RabbitMQ: start a Docker engine, or set {BUS_URL} and {MANAGEMENT_URL}")


async def _engine_answers() -> bool:
    try:
        await _docker("version", "--format", "{{.Server.Version}}")
    except (OSError, Missing):
        return False
    return True


@contextlib.asynccontextmanager
async def _container(
    image: str, environment: dict[str, str], command: list[str]
) -> AsyncIterator[str]:
    """Run a container of *image* for the length of the block; yield its address."""
    name = f"docker-job-bench-{uuid.uuid4().hex[:8]}"
    variables = [part for key, value in environment.items() for part in ("-e", f"{key}={value}")]
    await _docker("run", "--detach", "--rm", "--name", name, *variables, image, *command)
    try:
        yield await _docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name
        )
    finally:
        await _docker("rm", "--force", "--volumes", name)


async def _docker(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise Missing(f"docker {arguments[0]}: {err.decode().strip()}")
    return out.decode().strip()


async def _patiently(ask: Callable[[], Awaitable[str]]) -> str:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        try:
            return await ask()
        except Exception as error:  # any error is possible while a server starts
            if asyncio.get_running_loop().time() > deadline:
                raise Missing(f"a server does not answer: {error}") from error
            await asyncio.sleep(0.5)


async def _postgres_version(url: str) -> str:
    conn = await connect(url)
    try:
        return str(await conn.fetchval("SHOW server_version"))
    finally:
        await conn.close()


async def _rabbitmq_version(management_url: str) -> str:
    overview = await manage(management_url, "GET", "overview")
    return str(overview["rabbitmq_version"])


async def manage(url: str, method: str, path: str, body: object = None) -> Any:
    """Call the broker's management API; return the decoded answer."""
    parts = urlsplit(url)
    auth = aiohttp.encode_basic_auth(parts.username or "", parts.password or "")
    base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    async with (
        aiohttp.ClientSession(headers={"Authorization": auth}, raise_for_status=True) as session,
        session.request(method, f"{base}/api/{path}", json=body) as answer,
    ):
        return await answer.json() if answer.content_type == "application/json" else None


async def server_pids(servers: Servers, admin: Connection) -> dict[str, int]:
    """Return the servers' processes on this machine, also those in containers."""
    pids = {}
    backend = find("postgres", int(await admin.fetchval("SELECT pg_backend_pid()")))
    if backend is not None and (postmaster := backend.parent()) is not None:
        pids["Postgres"] = postmaster.pid
    if (broker := find("beam.smp", await _broker_pid(servers))) is not None:
        pids["RabbitMQ"] = broker.pid
    return pids


async def _broker_pid(servers: Servers) -> int:
    """Return the broker's own pid, which it does not tell yet when it has just started."""
    async with asyncio.timeout(30):
        while True:
            [node] = await manage(servers.management_url, "GET", "nodes")
            if "os_pid" in node:
                return int(node["os_pid"])
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def fresh_database(servers: Servers) -> AsyncIterator[str]:
    """Make an empty database for the length of the block; yield the superuser's DSN."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    await _administer(servers, f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))
    finally:
        await _administer(servers, f"DROP DATABASE {name} WITH (FORCE)")


async def checkpoint(servers: Servers) -> None:
    """Flush earlier writes of Postgres to disk."""
    await _administer(servers, "CHECKPOINT")


async def _administer(servers: Servers, statement: str) -> None:
    conn = await connect(servers.database_url, command_seconds=120)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


@contextlib.asynccontextmanager
async def fresh_vhost(servers: Servers) -> AsyncIterator[str]:
    """Make an empty virtual host for the length of the block; yield the administrator's URL."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    user = quote(urlsplit(servers.bus_url).username or "guest", safe="")
    await manage(servers.management_url, "PUT", f"vhosts/{name}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    await manage(servers.management_url, "PUT", f"permissions/{name}/{user}", everything)
    try:
        yield urlunsplit(urlsplit(servers.bus_url)._replace(path=f"/{name}"))
    finally:
        await manage(servers.management_url, "DELETE", f"vhosts/{name}")
