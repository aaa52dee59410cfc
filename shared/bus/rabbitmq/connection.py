"""One AMQP connection, opened for the first channel and replaced as soon as it is in doubt.

Nothing here waits without a limit, and every failure becomes `BusUnavailable`. That includes the
CancelledError by which aiormq informs a waiter of a dead connection, although the task was not
cancelled: `except Exception` would miss it, and a task group would take the dead loop for a
finished one.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel as PublishingChannel
from aio_pika.abc import ConnectionParameter
from aiormq import TransportFactory
from aiormq.abc import AbstractChannel
from aiormq.connection import TCPTransportFactory, TLSTransportFactory
from aiormq.exceptions import AMQPError
from yarl import URL

from shared.bus.port import BusUnavailable

HEARTBEAT_SECONDS = 10
"""A peer that is silent for about three of these is dead; aiormq's default of 60 would mean three
minutes."""

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
"""Time limit for closing a connection in order; then its socket is cut."""


class TopologyError(Exception):
    """The broker refuses the declarations of the migration. The message names the remedy."""


def describe(error: BaseException) -> str:
    """Return the message of *error*, or its name if it has none."""
    return str(error) or type(error).__name__


@contextlib.contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Turn the exceptions of the client library into `BusUnavailable`.

    A CancelledError passes only if this task itself has been cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BusUnavailable(f"{doing}: the connection died") from error
    except TimeoutError as error:
        raise BusUnavailable(f"{doing}: no answer in time") from error
    # The library raises RuntimeError on a channel or connection that is closed already.
    except (AMQPError, OSError, RuntimeError, EOFError) as error:
        raise BusUnavailable(f"{doing}: {describe(error)}") from error
    except Exception as error:
        # And a bare Exception if the connection of a call died without a reason.
        if type(error) is not Exception:
            raise
        raise BusUnavailable(f"{doing}: the connection died") from error


class _Transport(TransportFactory):
    """A factory that opens the socket as the library does, and keeps it.

    If the broker no longer reads, a connection can be closed only by cutting the socket.
    """

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = url.scheme == "amqps"
        factory = TLSTransportFactory() if secure else TCPTransportFactory()
        reader, self.writer = await factory.create(url, **kwargs)
        return reader, self.writer

    def cut(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()


class _AMQP(aio_pika.Connection):
    """An aio-pika connection that passes our transport to aiormq."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda given: given, is_kwarg=True),
    )


class _Connection:
    """One connection, from opening to closing."""

    def __init__(self, url: URL) -> None:
        self._transport = _Transport()
        self._amqp = _AMQP(url, transport_factory=self._transport)

    async def open(self) -> None:
        try:
            await self._amqp.connect(timeout=OPEN_SECONDS)
        except BaseException:
            self._transport.cut()
            if self._amqp.transport is None:
                await self._amqp.close()  # at once; else its `__del__` starts a task for it
            raise

    @property
    def is_open(self) -> bool:
        return self._amqp.connected.is_set() and not self._amqp.is_closed

    async def channel(self, *, confirms: bool) -> PublishingChannel:
        channel = self._amqp.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        return channel

    async def is_blocked(self) -> bool:
        """Return whether the broker has blocked publishing: it has an alarm."""
        if self._amqp.transport is None:
            return False
        try:
            async with asyncio.timeout(0):  # ready at once, or blocked
                await self._amqp.transport.ready()
        except TimeoutError:
            return self.is_open
        return False

    async def close(self) -> None:
        """Close in order if the broker answers; otherwise cut the socket."""
        closing = asyncio.ensure_future(self._amqp.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        finally:
            self._transport.cut()
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        if closing.done() and not closing.cancelled():
            closing.exception()  # retrieved: a connection that cannot be closed is closed already


class Link:
    """The connection of one purpose, replaced when it has died."""

    def __init__(self, url: str, purpose: str) -> None:
        self._url = URL(url).update_query({"name": f"docker-job {purpose}"})
        if "heartbeat" not in self._url.query:
            self._url = self._url.update_query({"heartbeat": str(HEARTBEAT_SECONDS)})
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Future[None]] = set()

    async def channel(self) -> AbstractChannel:
        """Open a channel, over a new connection if there is none. Raises `BusUnavailable`."""
        channel = await self._channel(confirms=False)
        with unavailable("connect"):
            return await channel.get_underlay_channel()

    async def publishing_channel(self) -> PublishingChannel:
        """Open a channel whose publishes wait for confirms and raise for returned messages."""
        return await self._channel(confirms=True)

    async def _channel(self, *, confirms: bool) -> PublishingChannel:
        with unavailable("connect"):
            async with asyncio.timeout(OPEN_SECONDS):
                async with self._opening:
                    connection = await self._open()
                try:
                    return await connection.channel(confirms=confirms)
                except Exception:
                    # It may have died without the library's notice yet: the next one is another.
                    if connection is self._connection:
                        self.drop()
                    raise

    async def _open(self) -> _Connection:
        if self._connection is None or not self._connection.is_open:
            self.drop()
            fresh = _Connection(self._url)
            await fresh.open()
            self._connection = fresh
        return self._connection

    async def is_blocked(self) -> bool:
        """Return whether there is a connection, and the broker has blocked publishing."""
        return self._connection is not None and await self._connection.is_blocked()

    def drop(self) -> None:
        """Abandon this connection: it is closed in the background."""
        if self._connection is not None:
            leaving = asyncio.ensure_future(self._connection.close())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            self._connection = None

    async def close(self) -> None:
        """Close it, and wait for those that were dropped."""
        self.drop()
        if self._leaving:
            await asyncio.wait(self._leaving)
