"""The four services as processes, on a fresh database and virtual host."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from bench.client import Ask, Load, Outcome, put_load
from bench.cpu import Meter
from bench.memory import children, tree_bytes
from bench.servers import Servers, fresh_database, fresh_vhost, server_pids
from operations.wiring import SERVICES
from shared.postgres.pool import Connection, connect

NAMES = tuple(service.NAME for service in SERVICES)
LOGIN = "bench"
"""Every service's password."""
OURS = Path(__file__).parents[1]
"""The tree that this file is part of."""
READY_SECONDS = 60.0
SAMPLE_SECONDS = 0.5
HOST = "127.0.0.1"

EACH_ALONE = {name: f"services.{name}" for name in NAMES}
"""Process -> the module that it runs."""

ONE_CLOUD = {"api": "services.api", "scheduler": "services.scheduler", "cloud": "bench.cloud"}
"""A virtual cloud is in one process, so launcher and reaper share one."""


@dataclass
class System:
    """A running system. *admin* has access to the whole database."""

    admin: Connection
    bus_url: str
    database_url: str
    port: int
    pids: dict[str, int]
    meter: Meter
    """Of the services and, where they run on this machine, the servers."""
    peak_bytes: dict[str, int] = field(default_factory=dict)

    def memory(self) -> dict[str, int]:
        """Return each service's memory now, in bytes, of all its processes."""
        return {name: tree_bytes(pid) for name, pid in self.pids.items()}

    def processes(self, name: str) -> int:
        """Return the number of processes that share the work of service *name*."""
        return max(1, len(children(self.pids[name])))

    async def load(self, clients: int, seconds: float, *asks: Ask) -> Outcome:
        """Put load on the API."""
        return await put_load(
            Load(host=HOST, port=self.port, clients=clients, seconds=seconds, asks=asks)
        )

    async def accept(self, job_array: bytes) -> None:
        """POST *orders* once."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/schedule", data=job_array, method="POST"
        )
        with await asyncio.to_thread(urllib.request.urlopen, request) as answer:
            answer.read()

    async def count(self, sql: str, *args: object) -> int:
        """Return the number that *sql* selects."""
        return int(await self.admin.fetchval(sql, *args) or 0)

    async def until(self, sql: str, least: int, *, seconds: float, every: float = 0.1) -> None:
        """Wait until *sql* selects *least* or more. Raises TimeoutError with the number found."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (found := await self.count(sql)) < least:
            if loop.time() > deadline:
                raise TimeoutError(f"{found} of {least} after {seconds:g} s: {sql}")
            await asyncio.sleep(every)

    async def settled(self, *, seconds: float = 120) -> float:
        """Wait until every accepted job has its timer; return the time it took, in seconds."""
        begun = datetime.now(UTC)
        jobs = await self.count("SELECT count(*) FROM api.jobs")
        await self.until("SELECT count(*) FROM scheduler.timers", jobs, seconds=seconds)
        return (datetime.now(UTC) - begun).total_seconds()


@contextlib.asynccontextmanager
async def run_system(
    servers: Servers,
    processes: Mapping[str, str] = EACH_ALONE,
    settings: Mapping[str, str] | None = None,
    tree: Path = OURS,
) -> AsyncIterator[System]:
    """Run a fresh system of the code in *tree* for the length of the block.

    *settings* are environment variables without their prefix.
    """
    async with contextlib.AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(fresh_database(servers))
        bus_url = await stack.enter_async_context(fresh_vhost(servers))
        await _migrate(servers, database_url, bus_url, tree)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = free_port()
        environment = _environment(database_url, bus_url, port, settings or {})
        pids = {}
        for name, module in processes.items():
            ready = {"DOCKER_JOB_READY_FILE": str(directory / f"{name}.ready")}
            process = stack.enter_context(
                running(module, environment | ready, directory / f"{name}.log", tree=tree)
            )
            pids[name] = process.pid
        admin = await connect(database_url, command_seconds=300)
        stack.push_async_callback(admin.close)
        await _until_ready(port, [directory / f"{name}.ready" for name in pids if name != "api"])
        meter = Meter(pids | await server_pids(servers, admin))
        system = System(admin, bus_url, database_url, port, pids, meter)
        sampling = asyncio.create_task(_sample(system))
        stack.callback(sampling.cancel)
        yield system


async def _migrate(servers: Servers, database_url: str, bus_url: str, tree: Path) -> None:
    """Migrate by the operator's command, which an older tree has too."""
    bus = urlsplit(servers.bus_url)
    settings = {
        "DATABASE_URL": database_url,
        "BUS_URL": bus_url,
        "BUS_USER": unquote(bus.username or "guest"),
        "BUS_PASSWORD": unquote(bus.password or "guest"),
        "BUS_MANAGEMENT_URL": servers.management_url,
    }
    for name in NAMES:
        settings[f"{name.upper()}_DATABASE_PASSWORD"] = LOGIN
        settings[f"{name.upper()}_BUS_PASSWORD"] = LOGIN
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operations.migrate"),
        cwd=tree,
        env=_prefixed(settings),
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the migration of {tree} failed: {output.decode()[-2000:]}")


def _environment(
    database_url: str, bus_url: str, port: int, settings: Mapping[str, str]
) -> dict[str, str]:
    chosen = {
        "DATABASE_URL": _without_login(database_url),
        "DATABASE_PASSWORD": LOGIN,
        "BUS_URL": _without_login(bus_url),
        "BUS_PASSWORD": LOGIN,
        "DEPLOYMENT": "bench",
        "TOKEN_KEY": "b" * 64,
        "API_URL": f"http://{HOST}:{port}",
        "HOST": HOST,
        "PORT": str(port),
        # Its agents never call: the measurement ends with the launch.
        "COMPUTE_URL": "sim://?boot_seconds=86400",
        # The reaper's own cloud is empty: it must not take the launcher's instances for lost.
        "REAP_WATCH_SECONDS": "3600",
        **settings,
    }
    return _prefixed(chosen)


def _prefixed(settings: Mapping[str, str]) -> dict[str, str]:
    return dict(os.environ) | {f"DOCKER_JOB_{name}": value for name, value in settings.items()}


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@contextlib.contextmanager
def running(
    module: str, environment: Mapping[str, str], log: Path, *arguments: str, tree: Path = OURS
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run *module* of *tree* as a process for the length of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=tree,
            env=dict(environment),
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _until_ready(port: int, files: list[Path]) -> None:
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while not (all(file.exists() for file in files) and await answers(port, "/readyz")):
        if asyncio.get_running_loop().time() > deadline:
            raise RuntimeError("the services are not ready")
        await asyncio.sleep(0.1)


async def answers(port: int, path: str) -> bool:
    """Return True if a GET of *path* is answered with 200."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=3) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return await asyncio.to_thread(ask)


async def _sample(system: System) -> None:
    """Record the peak memory of each process."""
    while True:
        for name, held in system.memory().items():
            system.peak_bytes[name] = max(held, system.peak_bytes.get(name, 0))
        await asyncio.sleep(SAMPLE_SECONDS)
