"""A way to a broker that a test can cut, as when the process at its near end dies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from yarl import URL


class CutWire:
    """Carries TCP connections; `url` is the broker's address by this way."""

    def __init__(self, url: str) -> None:
        self._real = URL(url)
        self.url = url
        self._writers: set[asyncio.StreamWriter] = set()
        self._muted = False
        self.asked = asyncio.Event()
        """Set when the broker received something whose answer is lost."""

    def mute(self) -> None:
        """Lose the broker's answers from now on."""
        self._muted = True

    def cut(self) -> None:
        """End every connection without notice."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._muted = False

    async def open(self) -> asyncio.Server:
        """Listen; from here on `url` is this way."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        self.url = str(self._real.with_host("127.0.0.1").with_port(port))
        return server

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._real.host, self._real.port)
        self._writers |= {writer, up_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._upwards(reader, up_writer), self._down(up_reader, writer))

    async def _upwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            if self._muted:
                self.asked.set()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self._muted:
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def cut_wire(url: str) -> AsyncIterator[CutWire]:
    """Open a way to the broker at *url* during the block."""
    wire = CutWire(url)
    server = await wire.open()
    try:
        yield wire
    finally:
        server.close()
        wire.cut()
        await server.wait_closed()
