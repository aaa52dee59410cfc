"""The API behind its real HTTP server, in a thread of its own: for clients that block."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, TypeVar

from operations.migrate import service_dsn
from operations.wiring import TOPOLOGY
from services.api.http.server import bind, http_server
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.postgres.pool import open_database
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports
from tests.conftest import PASSWORDS
from tests.support.api.api_world import World, a_config

T = TypeVar("T")

SERVED = {"SECRETS_KEY": "0f" * 32, "REQUESTS_PER_SECOND": "0", "FAILURES_PER_SECOND": "0"}
"""The settings of the `World` that tests share: many at once, who are not limited."""


class ServedWorld:
    """A `World` in another thread's event loop, and its address."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.world = world
        self.base_url = f"http://127.0.0.1:{port}"
        self.port = port
        self._loop = loop

    def do(self, act: Coroutine[Any, Any, T]) -> T:
        """Run *act* in that loop; return its result."""
        return asyncio.run_coroutine_threadsafe(act, self._loop).result(timeout=30)


@contextlib.contextmanager
def served_world(database_url: str, **settings: str) -> Iterator[ServedWorld]:
    """Serve the API with *settings* on the database of an admin's DSN, until the block is left."""
    ready: Future[ServedWorld] = Future()
    leave: Future[None] = Future()
    thread = threading.Thread(target=_serve, args=(database_url, settings, ready, leave))
    thread.start()
    try:
        yield ready.result(timeout=30)
    finally:
        leave.set_result(None)
        thread.join()


def _serve(
    database_url: str,
    settings: dict[str, str],
    ready: "Future[ServedWorld]",
    leave: "Future[None]",
) -> None:
    async def run() -> None:
        clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
        db = await open_database(service_dsn(database_url, "api", PASSWORDS["api"]), "api", clock)
        wakeups = Wakeups(db.dsn, channel="api", identity="test")
        ports = Ports(
            db=db, bus=MemoryBus(TOPOLOGY), clock=clock, wakeups=wakeups, points=WatchedPoints()
        )
        world = World(ports, clock, a_config(**settings))
        with bind("127.0.0.1", 0) as sock:
            server = http_server(world.api.app)
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            ready.set_result(ServedWorld(world, asyncio.get_running_loop(), sock.getsockname()[1]))
            await asyncio.wrap_future(leave)
            server.stop()
            await serving
        await world.close()
        await db.close()

    try:
        asyncio.run(run())
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)
