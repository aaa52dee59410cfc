"""State that the processes of one API share beside the database: rate limits and changed jobs.

Made before the processes fork. A single process shares nothing.

The callers' buckets are in shared memory, so that a limit holds however a caller's connections are
spread. There is no lock: of two requests of one caller at the same time one may go uncounted, which
is acceptable for a limit on the average.

Changed jobs are announced in datagrams. They are hints: one is lost if its reader's queue is full,
and followers also poll.
"""

import asyncio
import contextlib
import mmap
import socket
import struct
from collections.abc import Callable, Iterator, Sequence

_BUCKET = struct.Struct("@Qdd")
"""The caller (a hash), the requests left, and the time of that; each is written at once."""

WAYS = 8
SETS = 1024


class RateBuckets:
    """The token buckets of the latest callers: a table of a fixed size, 200 kB."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BUCKET.size * WAYS * SETS)

    def read(self, caller: str) -> tuple[float, float] | None:
        """Return the requests that *caller* had left, and when; None if it is not in the table."""
        owner = _hash(caller)
        for place in self._places(owner):
            found, left, at = _BUCKET.unpack_from(self._memory, place)
            if found == owner:
                return left, at
        return None

    def write(self, caller: str, left: float, at: float) -> None:
        """Store a bucket in place of the one that is unused for longest."""
        owner = _hash(caller)
        ages = {}
        for place in self._places(owner):
            found, _, since = _BUCKET.unpack_from(self._memory, place)
            ages[place] = float("-inf") if found == owner else since
        _BUCKET.pack_into(self._memory, min(ages, key=ages.__getitem__), owner, left, at)

    def _places(self, owner: int) -> range:
        first = owner % SETS * WAYS * _BUCKET.size
        return range(first, first + WAYS * _BUCKET.size, _BUCKET.size)


def _hash(caller: str) -> int:
    # Python's own is keyed, with a key that forked processes have in common: clients cannot choose
    # two addresses that share a bucket. 0 is an empty place.
    return hash(caller) % (2**64 - 1) + 1


class Siblings:
    """One process's connection to the others."""

    def __init__(
        self,
        buckets: RateBuckets | None = None,
        inbox: socket.socket | None = None,
        others: Sequence[socket.socket] = (),
    ) -> None:
        self.buckets = buckets or RateBuckets()
        self.count = 1 + len(others)
        self._inbox = inbox
        self._others = others

    def announce(self, job_id: int) -> None:
        """Announce to the others that the job may have changed."""
        for other in self._others:
            with contextlib.suppress(OSError):  # full, or its process has ended
                other.send(job_id.to_bytes(8, "big"))

    @contextlib.contextmanager
    def listening(self, changed: Callable[[int], None]) -> Iterator[None]:
        """Call *changed* with the jobs that the others announce, while the block lasts."""
        if self._inbox is None:
            yield
            return
        loop, inbox = asyncio.get_running_loop(), self._inbox

        def take() -> None:
            with contextlib.suppress(BlockingIOError):
                changed(int.from_bytes(inbox.recv(8), "big"))

        loop.add_reader(inbox, take)
        try:
            yield
        finally:
            loop.remove_reader(inbox)

    def close(self) -> None:
        """Close the sockets."""
        for end in (self._inbox, *self._others):
            if end is not None:
                end.close()


def make_siblings(count: int) -> list[Siblings]:
    """Connect *count* processes: one value for each of them."""
    if count == 1:
        return [Siblings()]
    buckets = RateBuckets()
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for pair in pairs:
        for end in pair:
            end.settimeout(0)
    return [
        Siblings(buckets, inbox, [end for _, end in pairs[:own] + pairs[own + 1 :]])
        for own, (inbox, _) in enumerate(pairs)
    ]
