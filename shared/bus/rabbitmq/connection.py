"""One AMQP connection, opened when somebody wants a channel and given up as soon as it is in doubt.

Nothing here waits without a bound, and every failure leaves as `BusUnavailable`. That includes
aiormq's way of telling a waiter that the connection has died, which is a CancelledError although
nobody cancelled the task: `except Exception` would miss it, and a task group would take the dead
loop for a finished one.
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
"""A peer that has said nothing for about three of these is dead; aiormq's own 60 would mean
three minutes."""

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
"""How long a connection may take to close by the book before its socket is cut."""


class TopologyError(Exception):
    """The broker refuses what the migration declares. The message says what to do."""


def describe(error: BaseException) -> str:
    """What it says, or, where it says nothing, its name."""
    return str(error) or type(error).__name__


@contextlib.contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Turn whatever the client library raises within into `BusUnavailable`.

    A CancelledError passes only where this very task has been cancelled.
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
    # RuntimeError is what the library raises on a channel or connection that is closed already.
    except (AMQPError, OSError, RuntimeError, EOFError) as error:
        raise BusUnavailable(f"{doing}: {describe(error)}") from error
    except Exception as error:
        # And a bare Exception is how it ends a call whose connection died for no reason given.
        if type(error) is not Exception:
            raise
        raise BusUnavailable(f"{doing}: the connection died") from error


class _Transport(TransportFactory):
    """Opens the socket as the library would, and keeps hold of it.

    A broker that reads no more can be closed only by cutting.
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
    """aio-pika's connection, which hands a transport of ours on to aiormq's."""

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
            raise

    @property
    def is_open(self) -> bool:
        return self._amqp.connected.is_set() and not self._amqp.is_closed

    async def channel(self, *, confirms: bool) -> PublishingChannel:
        channel = self._amqp.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        return channel

    async def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no messages now: an alarm of its own."""
        if self._amqp.transport is None:
            return False
        try:
            async with asyncio.timeout(0):  # it is known at once, or it is not so
                await self._amqp.transport.ready()
        except TimeoutError:
            return self.is_open
        return False

    async def close(self) -> None:
        """By the book where the broker answers, by cutting the socket where it does not."""
        closing = asyncio.ensure_future(self._amqp.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        finally:
            self._transport.cut()
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        if closing.done() and not closing.cancelled():
            closing.exception()  # seen: a connection that cannot be closed any more is closed


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
        """A new channel, over a new connection where there is none. Raises `BusUnavailable`."""
        channel = await self._channel(confirms=False)
        with unavailable("connect"):
            return await channel.get_underlay_channel()

    async def publishing_channel(self) -> PublishingChannel:
        """As `channel`, and its publishes wait for confirms and raise what is returned."""
        return await self._channel(confirms=True)

    async def _channel(self, *, confirms: bool) -> PublishingChannel:
        with unavailable("connect"):
            async with asyncio.timeout(OPEN_SECONDS):
                async with self._opening:
                    connection = await self._open()
                return await connection.channel(confirms=confirms)

    async def _open(self) -> _Connection:
        if self._connection is None or not self._connection.is_open:
            self.drop()
            fresh = _Connection(self._url)
            await fresh.open()
            self._connection = fresh
        return self._connection

    async def is_blocked(self) -> bool:
        """Whether there is a connection, and the broker takes no messages from it now."""
        return self._connection is not None and await self._connection.is_blocked()

    def drop(self) -> None:
        """Use this connection no more: it is closed behind the caller's back."""
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
