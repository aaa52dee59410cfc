"""Wake-ups: after a commit a sweep runs now, in this process and in its replicas.

A wake-up is only a hint. It is given after the commit, so a crash in between loses it, and the
sweep's own interval replaces it. In this process it sets an event; replicas get it by NOTIFY,
gathered so that a batch of commits costs one (a NOTIFY in every transaction would serialise them
all: 8 writers fall from 6,100 to 2,300 commits per second).

A name like `job:7` is a detail of the topic `job`: it goes to what listens to that topic, and sets
no event.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection
from typing import Any

from shared.backoff import RECONNECT
from shared.log import get_logger
from shared.postgres.errors import is_transient, means_dead_connection
from shared.postgres.pool import Connection, connect

GATHER_SECONDS = 0.1
"""The time between two NOTIFYs: a single wake-up travels at once, those of a burst together."""

PAYLOAD_BYTES = 7999
"""Bytes in one NOTIFY, at most (https://www.postgresql.org/docs/current/sql-notify.html)."""

MOST_PAYLOADS = 8
"""With more, every detail of the topics counts as named; if that is still too long, every name."""

PING_SECONDS = 15.0
"""How often a silent connection is tried: its other end may be gone without a sign."""

EVERYTHING = ""
"""As a detail: whatever belongs to the topic may have changed."""

_log = get_logger(part="wakeups")


PING = "SELECT"
NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"


async def notify(conn: Connection, channel: str, identity: str, names: Collection[str]) -> None:
    """Wake *names* in all listeners on *channel*, except the one with *identity*."""
    payloads = _payloads(identity, names)
    if len(payloads) > MOST_PAYLOADS:
        payloads = _payloads(identity, {_topic_alone(each) for each in names})
    if len(payloads) > MOST_PAYLOADS:
        payloads = [identity]  # no name means every name
    await conn.execute(NOTIFY, channel, payloads)


def _payloads(identity: str, names: Collection[str]) -> list[str]:
    payloads = [identity]
    for name in sorted(names):
        longer = f"{payloads[-1]} {name}"
        if len(longer.encode()) > PAYLOAD_BYTES:
            payloads.append(f"{identity} {name}")
        else:
            payloads[-1] = longer
    return payloads


def _topic_alone(name: str) -> str:
    topic, colon, _ = name.partition(":")
    return topic + colon


class Wakeups:
    """The wake-ups of one service: named events, shared by its replicas through one channel."""

    def __init__(
        self, dsn: str, channel: str, identity: str, *, ping_seconds: float = PING_SECONDS
    ) -> None:
        self._dsn = dsn
        self._channel = channel
        self._identity = identity
        self._ping_seconds = ping_seconds
        self._events: dict[str, asyncio.Event] = {}
        self._topics: dict[str, list[Callable[[str], None]]] = {}
        self._outgoing: set[str] = set()
        self._anything_outgoing = asyncio.Event()
        self._failures = 0

    def event(self, name: str) -> asyncio.Event:
        """Return the event that a wake-up of *name* sets; the waiter clears it before its pass."""
        return self._events.setdefault(name, asyncio.Event())

    def listen(self, topic: str, take: Callable[[str], None]) -> None:
        """Call *take* with each detail of *topic* that is woken, `EVERYTHING` among them."""
        self._topics.setdefault(topic, []).append(take)

    def wake(self, *names: str) -> None:
        """Run the sweeps *names* now, here and in the replicas: called after a commit."""
        for name in names:
            self._wake_here(name)
        if names:
            self._outgoing.update(names)
            self._anything_outgoing.set()

    def wake_all(self) -> None:
        """Set every event here, and wake every topic: a wake-up may have been missed."""
        for event in self._events.values():
            event.set()
        for topic in self._topics:
            self._wake_here(f"{topic}:{EVERYTHING}")

    def _wake_here(self, name: str) -> None:
        topic, colon, detail = name.partition(":")
        if not colon:
            self.event(name).set()
        for take in self._topics.get(topic, ()) if colon else ():
            take(detail)

    async def run(self) -> None:
        """Listen and notify until cancelled, over a connection that is replaced when it dies.

        No error ends it: a service must not end for its wake-ups, which are only hints.
        """
        while True:
            try:
                await self._run_connected()
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and not means_dead_connection(error):
                    raise
                report = _log.warning if is_transient(error) else _log.error
                report("wake-ups disconnected", channel=self._channel, error=str(error))
            self._failures += 1
            await asyncio.sleep(RECONNECT.delay(self._failures, random.random()))

    async def _run_connected(self) -> None:
        conn = await connect(self._dsn)
        died = asyncio.Event()
        try:
            # The only sign of a LISTEN connection that dies; it would otherwise just stay silent.
            conn.add_termination_listener(lambda _conn: died.set())
            await conn.add_listener(self._channel, self._on_notify)
            self._failures = 0
            self.wake_all()
            while not died.is_set():
                await self._send_gathered(conn, died)
        finally:
            with contextlib.suppress(Exception):
                conn.terminate()

    async def _send_gathered(self, conn: Connection, died: asyncio.Event) -> None:
        waits = [
            asyncio.ensure_future(self._anything_outgoing.wait()),
            asyncio.ensure_future(died.wait()),
        ]
        try:
            await asyncio.wait(
                waits, timeout=self._ping_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        if died.is_set():
            return
        names, self._outgoing = self._outgoing, set()
        self._anything_outgoing.clear()
        if not names:
            await conn.execute(PING, timeout=self._ping_seconds)
            return
        try:
            await notify(conn, self._channel, self._identity, names)
        except BaseException:
            self._outgoing |= names  # they travel over the next connection
            self._anything_outgoing.set()
            raise
        await asyncio.sleep(GATHER_SECONDS)

    def _on_notify(self, _conn: Any, _pid: int, _channel: str, payload: Any) -> None:
        identity, *names = str(payload).split(" ")
        if identity == self._identity:
            return
        for name in names:
            self._wake_here(name)
        if not names:
            self.wake_all()
