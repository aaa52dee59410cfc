"""A service as its own process: from settings to a running program and its exit status.

    settings ─▶ database, bus (waited for, however long) ─▶ compose ─▶ run ─▶ SIGTERM ─▶ drain ─▶
    close

Every composition, the embedded one too, runs on `run_parts`: the end of any part ends all.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from shared.bus.port import Bus, Topology
from shared.clock import RealClock
from shared.crash_points import points_from
from shared.events.events import Event
from shared.log import configure, get_logger
from shared.postgres.migrations import MESSAGING_SQL, Schema, refuse_unmigrated
from shared.postgres.pool import Database, open_database
from shared.postgres.waiting import wait_for_database
from shared.runtime.failures import as_one, failures_of
from shared.runtime.health import bind_health, serve_health
from shared.runtime.readiness import touch_while_ready
from shared.runtime.service import Ports, Service, ports_for
from shared.settings import EXIT_SETTING, BadSetting, Settings, remove_empty
from shared.signals import stop_on_signals
from shared.terminal import print_line
from shared.url import with_login

EXIT_CRASH = 70
"""EX_SOFTWARE of sysexits.h."""

Result = TypeVar("Result")

GC_THRESHOLDS = (20_000, 10, 20)
"""Of Python's garbage collector: a batch of 500 events makes and frees about 20,000 objects."""


@dataclass(frozen=True)
class Part:
    """A named part of a program, which runs until it is drained."""

    name: str
    run: Awaitable[Any]


async def run_parts(
    parts: list[Part], stop: asyncio.Event, drain: Callable[[], Awaitable[None]]
) -> None:
    """Run *parts* until *stop* is set; then call *drain* and await their end.

    A part that ends earlier ends all of them, with a RuntimeError that names it; its cause has the
    errors of all parts. One that fails while it drains is logged: the program stops anyway.
    """
    tasks = [asyncio.create_task(_awaited(part.run), name=part.name) for part in parts]
    stopped = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    early = [task for task in ended if task is not stopped]
    stopped.cancel()
    await drain()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    if early:
        names = ", ".join(sorted(task.get_name() for task in early))
        raise RuntimeError(f"a part ended by itself: {names}") from as_one(failures_of(results))
    for task, result in zip(tasks, results, strict=True):
        if isinstance(result, BaseException):
            get_logger().error(
                "a part failed while it drained", part=task.get_name(), exc_info=result
            )


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def collect_seldom() -> None:
    """Exclude all objects so far from garbage collection, and collect seldom.

    Called once all is composed. Few of our objects form cycles: reference counting frees them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


Composed = tuple[list[Part], Callable[[], Awaitable[None]]]
"""The parts of a program, and the function that drains them."""

Compose = Callable[[Settings, Ports, contextlib.AsyncExitStack], Awaitable[Composed]]
"""The composition of a service, in its `__main__`; the stack closes what it opens."""

OpenBus = Callable[[str, Topology], Bus]
"""A function of the bus' URL and the queues: `shared.adapters.open_bus`."""


def worker(settings: Settings, service: Service) -> Composed:
    """Compose a service without an API: itself, its readiness file, and `/readyz` on a port.

    Raises `BadSetting`.
    """
    ready = Path(settings.text("READY_FILE", f"/tmp/{service.name}.ready"))  # noqa: S108
    draining = asyncio.Event()
    sock = bind_health(settings)

    async def drain() -> None:
        draining.set()
        service.drain()

    parts = [
        Part(service.name, service.run()),
        Part("readiness", touch_while_ready(ready, service.look, service.name, draining)),
    ]
    if sock is not None:
        parts.append(Part("health", serve_health(sock, service.look, draining)))
    return parts, drain


def login(settings: Settings, name: str, what: str, example: str) -> str:
    """Return `DOCKER_JOB_<what>_URL`, with user *name* if `…_PASSWORD` is set separately.

    Raises `BadSetting`.
    """
    url = settings.required(f"{what}_URL", example)
    password = settings.text(f"{what}_PASSWORD")
    return url if password is None else with_login(url, name, password)


def database_login(settings: Settings, name: str) -> str:
    """Return the DSN of service *name*. Raises `BadSetting`."""
    return login(settings, name, "DATABASE", "postgresql://localhost/docker_job")


def configure_log(settings: Settings) -> None:
    """Configure logging from the settings. Raises `BadSetting`."""
    configure(settings.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")))


def main(
    name: str, consumes: Sequence[type[Event]], compose: Compose, open_bus: OpenBus, sql: Path
) -> int:
    """Run the service *name* until a signal comes; return the exit status.

    *sql* has the migrations that it waits for.
    """
    remove_empty(os.environ)
    settings = Settings(os.environ)
    try:
        configure_log(settings)
        topology = {name: tuple(event.__name__ for event in consumes)}
        uvloop.run(_serve(name, settings, topology, compose, open_bus, sql))
    except BadSetting as error:
        print_line(f"docker-job {name}: {error}", error=True)
        return EXIT_SETTING
    except Exception as error:  # noqa: BLE001 - the last line of defence
        get_logger(service=name).critical("service stops", exc_info=error)
        return EXIT_CRASH
    return 0


async def _serve(
    name: str,
    settings: Settings,
    topology: Topology,
    compose: Compose,
    open_bus: OpenBus,
    sql: Path,
) -> None:
    stop = stop_on_signals()
    clock = RealClock()
    async with contextlib.AsyncExitStack() as stack:
        dsn = database_login(settings, name)
        db = await _until_stopped(_database(dsn, name, clock, settings, sql), stop)
        if db is None:
            return
        stack.push_async_callback(db.close)
        bus = open_bus(login(settings, name, "BUS", "amqp://localhost"), topology)
        stack.push_async_callback(bus.close)
        ports = ports_for(db, bus, clock, points_from(settings.text("EXIT_AT")))
        composed = await _until_stopped(compose(settings, ports, stack), stop)
        if composed is None:
            return
        parts, drain = composed
        collect_seldom()
        get_logger(service=name).info("service runs")
        await run_parts(parts, stop, drain)
        get_logger(service=name).info("service has drained")


async def _database(
    dsn: str, name: str, clock: RealClock, settings: Settings, sql: Path
) -> Database:
    """Wait for Postgres: it may start or be migrated later than this process."""
    connections = settings.integer("DATABASE_CONNECTIONS", 8, least=2)
    deployment = settings.text("DEPLOYMENT", "local")

    async def opened() -> Database:
        db = await open_database(dsn, name, clock, connections=connections, deployment=deployment)
        try:
            async with db.connection() as conn:
                await refuse_unmigrated(
                    conn, Schema(name, "", {"shared": MESSAGING_SQL, name: sql})
                )
        except BaseException:
            await db.close()
            raise
        return db

    return await wait_for_database(opened, get_logger(service=name))


async def _until_stopped(work: Awaitable[Result], stop: asyncio.Event) -> Result | None:
    """Await *work*; return None, and cancel it, if *stop* is set before."""
    working = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return None
