"""Launcher and reaper in one process on one virtual cloud, for jobs on simulated instances.

The simulator is in its process' memory, so in two processes each would have a cloud of its own.
Each service keeps its own login, schema and queue. The virtual agents call the API over HTTP from
here, so this process' load includes theirs.
"""

import asyncio
import contextlib
import os
import sys

import uvloop

import services.launcher.config as launcher_config
import services.launcher.service as launcher_service
import services.reaper.config as reaper_config
import services.reaper.service as reaper_service
from services import launcher, reaper
from shared.adapters import compute_from, open_bus
from shared.clock import RealClock
from shared.log import configure
from shared.postgres.pool import open_database
from shared.runtime.process import Composed, Part, run_parts, worker
from shared.runtime.service import Ports, ports_for
from shared.settings import Settings
from shared.signals import stop_on_signals
from shared.url import with_login


async def _ports(
    settings: Settings, name: str, consumes: tuple[str, ...], stack: contextlib.AsyncExitStack
) -> Ports:
    database = settings.required("DATABASE_URL", "postgresql://localhost/docker_job")
    broker = settings.required("BUS_URL", "amqp://localhost")
    dsn = with_login(database, name, settings.required("DATABASE_PASSWORD", "bench"))
    db = await open_database(dsn, name, RealClock(), connections=8)
    stack.push_async_callback(db.close)
    login = with_login(broker, name, settings.required("BUS_PASSWORD", "bench"))
    bus = open_bus(login, {name: consumes})
    stack.push_async_callback(bus.close)
    return ports_for(db, bus, RealClock())


async def _serve(settings: Settings) -> None:
    stop = stop_on_signals()
    async with contextlib.AsyncExitStack() as stack:
        compute = compute_from(settings, RealClock())
        stack.push_async_callback(compute.close)
        ports = {
            each.NAME: await _ports(
                settings, each.NAME, tuple(event.__name__ for event in each.CONSUMES), stack
            )
            for each in (launcher, reaper)
        }
        launching = launcher_config.from_settings(
            settings,
            deployment=settings.required("DEPLOYMENT", "bench"),
            api_url=settings.required("API_URL", "http://127.0.0.1:8000"),
            token_key=settings.required("TOKEN_KEY", "64 random hexadecimal digits"),
        )
        composed: list[Composed] = [
            worker(settings, launcher_service.build(launching, ports["launcher"], compute)),
            worker(
                settings,
                reaper_service.build(
                    reaper_config.from_settings(settings), ports["reaper"], compute
                ),
            ),
        ]
        parts: list[Part] = [part for each, _ in composed for part in each]

        async def drain() -> None:
            await asyncio.gather(*(drain() for _, drain in composed))

        await run_parts(parts, stop, drain)


if __name__ == "__main__":
    configure()
    sys.exit(uvloop.run(_serve(Settings(os.environ))))
