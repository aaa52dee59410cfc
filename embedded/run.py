"""All four services in one process, on an embedded Postgres and the memory bus: `make run`.

The same code as in production, composed otherwise: each service has its own schema and login role,
its own outbox and inbox, and the bus is its only connection to the others.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

import services.api.config as api_config
import services.api.service as api_service
import services.launcher.config as launcher_config
import services.launcher.service as launcher_service
import services.reaper.config as reaper_config
import services.reaper.service as reaper_service
import services.scheduler.config as scheduler_config
import services.scheduler.service as scheduler_service
from embedded.banner import start_block
from embedded.data_dir import DataDirError, close_new_files, close_to_others, lock_data_dir
from embedded.database import POSTGRES
from embedded.keys import run_keys
from embedded.postgres import EmbeddedPostgres, EmbeddedPostgresError
from embedded.secrets import LocalSecrets, local_secrets
from operations.migrate import migrate_all, service_dsn
from operations.wiring import SERVICES, TOPOLOGY
from services.api.http.server import CannotListen, bind, check_exposure, http_server, room_of
from shared.adapters import (
    ComputePlace,
    have_role,
    open_bus,
    open_compute,
    open_notices,
    read_runtime,
)
from shared.bus.port import Bus
from shared.clock import Clock, RealClock
from shared.compute.ec2.settings import ec2_settings
from shared.compute.port import Compute
from shared.compute.process.adapter import Runtime
from shared.compute.shared_engine import shared_engine_from
from shared.crash_points import Points, points_from
from shared.log import configure, get_logger
from shared.postgres.migrations import MigrationError
from shared.postgres.pool import open_database
from shared.runtime.http_server import HttpServer
from shared.runtime.process import EXIT_CRASH, Part, collect_seldom, run_parts
from shared.runtime.service import Ports, Service, ports_for
from shared.settings import PREFIX, BadSetting, Settings, remove_empty
from shared.signals import stop_on_signals
from shared.terminal import print_line
from shared.url import local_url, without_brackets

CONNECTIONS = {"api": 8, "scheduler": 4, "launcher": 4, "reaper": 4}


@dataclass(frozen=True)
class Setup:
    """The settings that this process itself needs; each service reads its own."""

    settings: Settings
    data_dir: Path
    host: str
    port: int
    bus_url: str
    compute_url: str
    database_url: str | None
    runtime: Runtime

    @property
    def address(self) -> str:
        """The API's address for users of this machine and for each agent."""
        return local_url(self.host, self.port)


def read_setup(settings: Settings) -> Setup:
    """Read the settings. Raises `BadSetting`."""
    if settings.text("TLS_CERTIFICATE_FILE") is not None:
        raise BadSetting(
            f"{PREFIX}TLS_CERTIFICATE_FILE is set, and this program serves plain HTTP alone: use "
            "compose, or leave it out and put a proxy in front"
        )
    return Setup(
        settings=settings,
        data_dir=Path(settings.text("DATA_DIR", ".data")).absolute(),
        host=without_brackets(settings.text("HOST", "127.0.0.1")),
        port=settings.integer("PORT", 8000, least=1, most=65_535),
        bus_url=settings.text("BUS_URL", "memory://"),
        compute_url=settings.text("COMPUTE_URL", "process://"),
        database_url=settings.text("DATABASE_URL"),
        runtime=read_runtime(settings),
    )


@dataclass(frozen=True)
class System:
    """The four services, composed."""

    api: api_service.Api
    others: tuple[Service, ...]
    bus: Bus

    async def run(self, http: HttpServer, sock: socket.socket, stop: asyncio.Event) -> None:
        """Serve until *stop* is set."""
        parts = [
            Part("api", self.api.run()),
            *(Part(each.name, each.run()) for each in self.others),
            Part("http", http.serve(sockets=[sock])),
        ]

        async def drain() -> None:
            http.stop()
            for service in (self.api.service, *self.others):
                service.drain()
            await self.bus.close()  # the relays stop waiting for acknowledgements

        await run_parts(parts, stop, drain)


def compose(
    setup: Setup, secrets: LocalSecrets, ports: dict[str, Ports], compute: Compute
) -> System:
    """Compose the four services; *ports* are by service name."""
    settings, deployment, key = setup.settings, secrets.deployment, secrets.token_key
    config = api_config.from_settings(
        settings,
        deployment=deployment,
        token_key=key,
        secrets_key=secrets.secrets_key,
        have_role=have_role(setup.compute_url, os.environ),
        compute_url=setup.compute_url,
    )
    for line in config.engine.described():
        get_logger(service="api").info(line)
    api = api_service.build(config, ports["api"])
    launcher = launcher_config.from_settings(
        settings,
        deployment=deployment,
        # Instances elsewhere need another address than this machine's own.
        api_url=settings.text("API_URL") or setup.address,
        token_key=key,
    )
    return System(
        api=api,
        others=(
            scheduler_service.build(scheduler_config.from_settings(settings), ports["scheduler"]),
            launcher_service.build(launcher, ports["launcher"], compute),
            reaper_service.build(
                reaper_config.from_settings(settings),
                ports["reaper"],
                compute,
                open_notices(settings),
            ),
        ),
        bus=ports["api"].bus,
    )


@contextlib.asynccontextmanager
async def opened(
    setup: Setup, secrets: LocalSecrets, admin_dsn: str, clock: Clock, points: Points
) -> AsyncIterator[tuple[System, Compute]]:
    """Open the system on a migrated database; close everything after the block."""
    await migrate_all(admin_dsn, secrets.passwords)
    place = ComputePlace(
        secrets.deployment,
        setup.data_dir,
        None,
        setup.runtime,
        shared_engine=shared_engine_from(setup.settings),
        ec2=ec2_settings(setup.settings),
    )
    async with contextlib.AsyncExitStack() as stack:
        bus = open_bus(setup.bus_url, TOPOLOGY)
        stack.push_async_callback(bus.close)
        compute = open_compute(setup.compute_url, place, clock)
        stack.push_async_callback(compute.close)
        ports = {}
        for name, connections in CONNECTIONS.items():
            dsn = service_dsn(admin_dsn, name, secrets.passwords[name])
            db = await open_database(
                dsn, name, clock, connections=connections, deployment=secrets.deployment
            )
            stack.push_async_callback(db.close)
            ports[name] = ports_for(db, bus, clock, points)
        yield compose(setup, secrets, ports, compute), compute


async def serve(setup: Setup, sock: socket.socket, announce: Callable[[str], None]) -> None:
    """Start everything, announce it, and run until a signal comes."""
    stop = stop_on_signals()
    postgres = EmbeddedPostgres(setup.data_dir / POSTGRES) if not setup.database_url else None
    if postgres is not None:
        postgres.refuse_foreign()  # before anything is changed
    if closed := close_to_others(setup.data_dir):
        first = ", ".join(str(each) for each in closed[:5])
        get_logger().warning("closed to other users", paths=len(closed), first=first)
    secrets = local_secrets(setup.data_dir, tuple(service.NAME for service in SERVICES))
    points = points_from(setup.settings.text("EXIT_AT"))
    try:
        admin_dsn = setup.database_url or ""
        if postgres is not None:
            admin_dsn = await asyncio.to_thread(postgres.start)
        async with opened(setup, secrets, admin_dsn, RealClock(), points) as (system, _):
            await check_exposure(setup.host, system.api.service.ports.db, "python -m embedded.run")
            room = room_of(system.api.config.http)
            http = http_server(system.api.app, room=room)
            collect_seldom()
            running = asyncio.create_task(system.run(http, sock, stop))
            announce(
                await start_block(
                    setup.address, setup.data_dir, postgres, setup.compute_url, setup.runtime
                )
            )
            await running
    finally:
        if postgres is not None:
            await asyncio.to_thread(postgres.stop)


def main() -> int:
    """Run, and return the exit status. An error that the user can correct is one line."""
    close_new_files()
    remove_empty(os.environ)
    settings = Settings(os.environ)
    try:
        configure(settings.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")))
        setup = read_setup(settings)
        if sys.argv[1:2] == ["keys"]:
            return run_keys(setup.data_dir, setup.database_url, sys.argv[2:])
        with lock_data_dir(setup.data_dir), bind(setup.host, setup.port) as sock:
            uvloop.run(serve(setup, sock, print_line))
    except (BadSetting, CannotListen, DataDirError, EmbeddedPostgresError, MigrationError) as error:
        print_line(f"docker-job: {error}", error=True)
        return 1
    except Exception as error:  # noqa: BLE001 - any other error is logged
        get_logger().critical("docker-job stops", exc_info=error)
        return EXIT_CRASH
    return 0


if __name__ == "__main__":
    sys.exit(main())
