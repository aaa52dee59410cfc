"""A TCP load balancer before servers of which some may be away: bytes as they come, no HTTP."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence


class TcpProxy:
    """Carries each connection to one of the servers at *ports*, by turns; runs in a thread.

    A server that refuses is passed over. A connection whose server dies is cut without notice.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self.only: int | None = None
        """The one server that gets new connections; None: each, by turns."""
        self._turn = 0
        self._carried: dict[asyncio.StreamWriter, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp proxy")
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def connections(self, server: int) -> int:
        """Return how many connections go to a server now."""
        return list(self._carried.values()).count(server)

    def cut(self) -> None:
        """End every connection without notice."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """Stop listening, cut every connection, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._carry, "127.0.0.1", 0)

    async def _stop(self) -> None:
        self._server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _cut(self) -> None:
        for writer in self._carried:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected = await self._connect()
        if connected is None:
            writer.transport.abort()
            return
        server, up_reader, up_writer = connected
        self._carried[writer] = server
        try:
            await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))
        except OSError:
            writer.transport.abort()
            up_writer.transport.abort()
        finally:
            del self._carried[writer]
            writer.close()
            up_writer.close()

    async def _connect(self) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._ports:
            self._turn = (self._turn + 1) % len(self._ports)
            server = self._turn if self.only is None else self.only
            with contextlib.suppress(OSError):
                return server, *await asyncio.open_connection("127.0.0.1", self._ports[server])
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
