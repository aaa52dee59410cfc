"""Reading request bodies: bounds on the size and time of one, and on the memory of all.

The budget has three shares, so that none uses up another's room: large bodies, small ones (such as
heartbeats), and claims, the only bodies that are read before their token can be checked. A small
body is counted as it arrives, and refused if there is no room. A large one waits until all of its
room is free before it is read: otherwise many at once could fill the share with parts, none of
which could ever be completed. (uvicorn stops reading a connection at 64 KiB of unread body.)
"""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, cast

from starlette.requests import ClientDisconnect, Request

from services.api.http.headers import header_of
from services.api.http.settings import LARGE_SHARE, BodyBounds
from services.api.submission.request import BadRequest

SMALL_BYTES = 65_536
"""The size limit of a small body, and of a claim and a callback."""

REPORT_BYTES = 1_048_576
"""The size limit of an agent's report. Its largest batch is 1,000 lines of 144 KiB in UTF-8, in the
releases before too (`agent/docker_job_agent/line_queue.py`, and one piece of `redraw.py`). JSON may
write six bytes for one (RFC 8259, 7), and has 120 bytes for each line beside its text."""

ROOM_SECONDS = 5.0
"""The longest time that a large body waits for room."""

OTHER_SHARES = 2 * LARGE_SHARE


class TooLarge(Exception):
    """The body is larger than allowed."""


class TooSlow(Exception):
    """The body did not arrive in time."""


class NoRoom(Exception):
    """Other bodies use up the budget: the client may try again in a second."""

    retry_seconds = 1

    def __init__(self) -> None:
        super().__init__("too many request bodies are being read now: try again")


class Share:
    """A part of the budget, in bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self._freed = asyncio.Event()

    def take(self, count: int) -> None:
        """Take room that is free now. Raises `NoRoom`."""
        if self.held + count > self.size:
            raise NoRoom
        self.held += count

    async def wait_for(self, count: int, seconds: float) -> None:
        """Take room; wait until it is free. Raises `NoRoom`."""
        try:
            async with asyncio.timeout(seconds):
                while self.held + count > self.size:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise NoRoom from None
        self.held += count

    def give_back(self, count: int) -> None:
        """Return room."""
        self.held -= count
        self._freed.set()


class Held:
    """The part of the budget that one body holds."""

    def __init__(self, share: Share) -> None:
        self.large = False
        self._share = share
        self._count = 0

    def take(self, count: int) -> None:
        """Hold *count* bytes more. Raises `NoRoom`."""
        self._share.take(count)
        self._count += count

    async def move(self, share: Share, count: int, seconds: float) -> None:
        """Hold *count* bytes of *share* instead of the bytes held so far. Raises `NoRoom`."""
        await share.wait_for(count, seconds)
        self.release()
        self.large, self._share, self._count = True, share, count

    def release(self) -> None:
        """Return all room."""
        self._share.give_back(self._count)
        self._count = 0


class Bodies:
    """Reads the bodies of one process; *processes* share the budget."""

    def __init__(
        self, bounds: BodyBounds, processes: int = 1, room_seconds: float = ROOM_SECONDS
    ) -> None:
        self._bounds = bounds
        self._room_seconds = room_seconds
        # This process's part of the budget, with room for the largest body.
        total = max(bounds.total // processes, LARGE_SHARE * bounds.size)
        self.large = Share(total // LARGE_SHARE)
        self.small = Share(total // OTHER_SHARES)
        self.unproven = Share(total // OTHER_SHARES)

    def read(self, request: Request, most: int | None = None, *, proven: bool = True) -> "Reading":
        """Read a body of up to *most* bytes; its room is held until the block is left.

        Leave it when nothing parsed from the body is needed any more: objects take more memory than
        their JSON. *proven*: the caller is already authorized. Entering raises `TooLarge`,
        `TooSlow`, `NoRoom`, `BadRequest`.
        """
        limit = self._bounds.size if most is None else min(most, self._bounds.size)
        share = self.small if proven else self.unproven
        return Reading(request, limit, Held(share), self)

    async def fetch(self, request: Request, limit: int, held: Held) -> bytes:
        """Read the body, which is not compressed, and take its room with *held*."""
        coding = header_of(request, b"content-encoding") or "identity"
        if coding.strip().lower() != "identity":
            raise BadRequest(f"the body has Content-Encoding {coding[:40]!r}: send it uncompressed")
        length = header_of(request, b"content-length") or "0"
        declared = int(length) if length.isdecimal() else 0
        if declared > limit:
            raise TooLarge(_too_large(limit))
        if declared > SMALL_BYTES:
            await held.move(self.large, declared, self._room_seconds)
        seconds = self._bounds.seconds
        try:
            return await _within(seconds, self._collect(request, limit, held))
        except TimeoutError:
            raise TooSlow(f"the body did not come within {seconds:g} s") from None

    async def _collect(self, request: Request, limit: int, held: Held) -> bytes:
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > limit:
                raise TooLarge(_too_large(limit))
            if not held.large and size > SMALL_BYTES:  # its length was not declared
                await held.move(self.large, limit, self._room_seconds)
            elif not held.large:
                held.take(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)


class Reading:
    """Context manager that reads a body and holds its room."""

    def __init__(self, request: Request, limit: int, held: Held, bodies: Bodies) -> None:
        self._request = request
        self._limit = limit
        self._held = held
        self._bodies = bodies

    async def __aenter__(self) -> bytes:
        try:
            return await self._bodies.fetch(self._request, self._limit, self._held)
        except BaseException:
            self._held.release()
            raise

    async def __aexit__(self, *_error: object) -> None:
        self._held.release()


async def _within(seconds: float, work: Coroutine[Any, Any, bytes]) -> bytes:
    """Await *work*. Raises TimeoutError.

    Nearly all bodies arrive with their heads. The timer costs twice as much as reading one, so it
    is set only if *work* has to wait.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        return cast("bytes", done.value)
    async with asyncio.timeout(seconds):
        return await _go_on(work, waits_for)


@types.coroutine
def _go_on(work: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """Run the rest of *work*, which waits for *waits_for*."""
    try:
        yield waits_for
    except BaseException as error:
        work.throw(error)  # it cleans up, and ends
        raise
    body: bytes = yield from work
    return body


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes"
