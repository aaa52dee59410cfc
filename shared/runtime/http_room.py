"""The room of a server's connections: how many there are, and the bytes that they buffer.

A connection costs memory before anything is known of its client. So a new one takes the place of
the one whose client has kept the server waiting for longest: for a head, for a body, or until it
reads its answer. Connections whose clients wait for the server (a query, an event to follow) keep
their place. Of all that is buffered (heads, bodies that no route has read, requests that wait for
their turn, answers that the client does not read) the largest connections are given up first: an
agent's call is small.
"""

import resource
from typing import Protocol

CONNECTIONS = 2000
"""The most connections of all processes of a server."""

BUFFERED_BYTES = 16_777_216
"""The most bytes that they buffer together."""

OTHER_FILES = 256
"""Open files beside connections: the database's, the broker's, and those of the process itself."""

BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted. All are, before the first of them can
be given up (asyncio, `_accept_connection`)."""

MOST_FILES = 8192
LEAST_CONNECTIONS = 16


class Connection(Protocol):
    """A connection, as far as its room depends on it."""

    def buffered(self) -> int:
        """Return the bytes that it buffers now."""

    def give_up(self, *, linger: bool) -> None:
        """Close it, with a 503 if its client waits for an answer; it buffers nothing any more.

        *linger*: it may stay for a while, until the client has read that.
        """


class Room:
    """The room of one process; *processes* share what is allowed."""

    def __init__(
        self,
        connections: int = CONNECTIONS,
        buffered_bytes: int = BUFFERED_BYTES,
        processes: int = 1,
    ) -> None:
        fitting = _open_files() - OTHER_FILES - BACKLOG
        self.most = max(LEAST_CONNECTIONS, min(connections // processes, fitting))
        self.most_bytes = buffered_bytes // processes
        self._all: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        """Those that wait for their clients, the longest first."""
        self._counting = False
        self._grown = 0
        """The bytes that were buffered at the last count, and all that came since."""

    def enter(self, connection: Connection) -> None:
        """Add a connection, which waits for its client; give one up if there are too many."""
        self._all.add(connection)
        self._waiting[connection] = None
        if len(self._all) > self.most:
            self._give_up(next(iter(self._waiting)))

    def leave(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)

    def wait_for_client(self, connection: Connection) -> None:
        """Note that the connection waits for its client from now on, if it does not already."""
        if connection in self._all:
            self._waiting.setdefault(connection)

    def wait_for_server(self, connection: Connection) -> None:
        """Note that the client waits for the server."""
        self._waiting.pop(connection, None)

    def grow(self, count: int) -> None:
        """Note *count* bytes that were received, or are to be sent.

        All that is buffered is counted only when it might be too much.
        """
        self._grown += count
        if self._grown > self.most_bytes and not self._counting:
            self._counting = True  # those given up are sent an answer, which comes here too
            try:
                # Never at each byte, however near the bound is.
                self._grown = min(self._count(), self.most_bytes * 7 // 8)
            finally:
                self._counting = False

    def _count(self) -> int:
        """Return the bytes that are buffered, after the largest were given up if need be."""
        sizes = {each: each.buffered() for each in self._all}
        total = sum(sizes.values())
        if total <= self.most_bytes:
            return total
        for each in sorted(sizes, key=sizes.__getitem__, reverse=True):
            self._give_up(each)
            total -= sizes[each]
            if total <= self.most_bytes // 2:
                break
        return total

    def _give_up(self, connection: Connection) -> None:
        linger = len(self._all) < self.most
        if linger:
            self._waiting.pop(connection, None)  # it leaves when it is closed
        else:
            self.leave(connection)
        connection.give_up(linger=linger)


def _open_files() -> int:
    """Return how many files this process may open; raise its own limit as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft
