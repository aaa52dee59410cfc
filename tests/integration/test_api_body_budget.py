"""The budget of all request bodies: waiting, refusal, and the release of room."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request

from services.api.http.bodies import SMALL_BYTES, Bodies, NoRoom, TooLarge, TooSlow
from services.api.http.settings import BodyBounds

MIB = 2**20
BOUNDS = BodyBounds(size=4 * MIB, seconds=20, total=16 * MIB)
"""Shares of 8, 4 and 4 MiB."""


class Sender:
    """A client whose body is sent on demand."""

    def __init__(self, declared: int | None = None) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        headers = [] if declared is None else [(b"content-length", str(declared).encode())]
        self.request = Request({"type": "http", "headers": headers}, self._receive)

    def send(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        self._pieces.put_nowait(None)

    async def _receive(self) -> dict[str, Any]:
        piece = await self._pieces.get()
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}


class Reading:
    """A route that reads a sender's body, and holds it until it is released."""

    def __init__(self, bodies: Bodies, sender: Sender, **how: Any) -> None:
        self.read = asyncio.Event()
        self.done = asyncio.Event()
        self.task = asyncio.create_task(self._run(bodies, sender, how))

    async def _run(self, bodies: Bodies, sender: Sender, how: dict[str, Any]) -> int:
        async with bodies.read(sender.request, **how) as raw:
            self.read.set()
            await self.done.wait()
            return len(raw)

    async def failed(self) -> BaseException | None:
        await asyncio.wait({self.task})
        return self.task.exception()

    async def leave(self) -> int:
        self.done.set()
        return await self.task


async def turns(count: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.contextmanager
def cancelled(readings: list[Reading]) -> Iterator[None]:
    try:
        yield
    finally:
        for each in readings:
            each.task.cancel()


def a_small_body(size: int) -> Sender:
    sender = Sender(size)
    sender.send(b"x" * size)
    sender.end()
    return sender


async def test_large_bodies_wait_for_one_another_and_small_ones_for_none() -> None:
    bodies = Bodies(BOUNDS)
    senders = [Sender(4 * MIB) for _ in range(70)]
    readings = [Reading(bodies, each) for each in senders]
    with cancelled(readings):
        await turns()
        assert bodies.large.held == 8 * MIB, "room for two"
        for proven in (True, False):
            small = Reading(bodies, a_small_body(SMALL_BYTES), proven=proven)
            await small.read.wait()
            assert await small.leave() == SMALL_BYTES
        for sender, reading in zip(senders, readings, strict=True):
            sender.send(b"x" * 4 * MIB)
            sender.end()
            await reading.read.wait()
            assert bodies.large.held <= 8 * MIB
            assert await reading.leave() == 4 * MIB
    assert (bodies.large.held, bodies.small.held, bodies.unproven.held) == (0, 0, 0)


async def test_a_large_body_that_finds_no_room_in_time_is_refused_unread() -> None:
    bodies = Bodies(BOUNDS, room_seconds=0.05)
    holders = [Reading(bodies, Sender(4 * MIB)) for _ in range(2)]
    with cancelled(holders):
        await turns()
        late = Reading(bodies, Sender(SMALL_BYTES + 1))
        assert isinstance(await late.failed(), NoRoom)
        assert bodies.large.held == 8 * MIB


async def test_room_is_held_until_the_request_is_answered() -> None:
    bodies = Bodies(BOUNDS)
    reading = Reading(bodies, a_small_body(1000))
    await reading.read.wait()
    assert bodies.small.held == 1000
    await reading.leave()
    assert bodies.small.held == 0


async def test_small_bodies_are_counted_as_they_come_and_refused_where_there_is_no_room() -> None:
    bodies = Bodies(BOUNDS)
    senders = [Sender(SMALL_BYTES) for _ in range(100)]
    readings = [Reading(bodies, each) for each in senders]
    with cancelled(readings):
        await turns()
        assert bodies.small.held == 0, "what was only announced takes no room"
        for each in senders:
            each.send(b"x" * 50_000)
        await turns()
        assert bodies.small.held <= 4 * MIB
        refused = [each for each in readings if each.task.done()]
        assert len(refused) == 100 - 4 * MIB // 50_000
        assert all(isinstance(each.task.exception(), NoRoom) for each in refused)
        claim = Reading(bodies, a_small_body(SMALL_BYTES), proven=False)
        await claim.read.wait()
        await claim.leave()
    await turns()
    assert bodies.small.held == 0


async def test_claims_that_never_end_leave_room_for_heartbeats() -> None:
    bodies = Bodies(BOUNDS)
    senders = [Sender() for _ in range(200)]
    claims = [Reading(bodies, each, most=SMALL_BYTES, proven=False) for each in senders]
    with cancelled(claims):
        for each in senders:
            each.send(b"x" * SMALL_BYTES)
        await turns()
        assert bodies.unproven.held == 4 * MIB
        heartbeat = Reading(bodies, a_small_body(60))
        await heartbeat.read.wait()
        assert await heartbeat.leave() == 60


async def test_a_body_of_no_declared_length_is_small_until_it_is_not() -> None:
    bodies = Bodies(BOUNDS)
    sender = Sender()
    reading = Reading(bodies, sender)
    sender.send(b"x" * SMALL_BYTES)
    await turns()
    assert (bodies.small.held, bodies.large.held) == (SMALL_BYTES, 0)
    sender.send(b"x")
    await turns()
    assert (bodies.small.held, bodies.large.held) == (0, 4 * MIB)
    sender.end()
    assert await reading.leave() == SMALL_BYTES + 1
    assert bodies.large.held == 0


@pytest.mark.parametrize("declared", [MIB, None])
async def test_whatever_ends_a_body_gives_its_room_back(declared: int | None) -> None:
    bodies = Bodies(BodyBounds(size=MIB, seconds=0.05, total=4 * MIB))
    slow = Sender(declared)
    slow.send(b"x" * 100_000)
    assert isinstance(await Reading(bodies, slow).failed(), TooSlow)
    large = Sender(None)
    large.send(b"x" * (MIB + 1))
    assert isinstance(await Reading(bodies, large).failed(), TooLarge)
    left = Reading(bodies, slow)
    await turns()
    left.task.cancel()
    await asyncio.wait({left.task})
    assert (bodies.large.held, bodies.small.held) == (0, 0)
