"""What request bodies can take of the API's memory: the token is first, and there is a budget."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from services.api.config import BodyBounds
from services.api.routes.bodies import SMALL_BYTES, Bodies, NoRoom, TooLarge, TooSlow
from services.api.server import bind, http_server
from shared import tokens
from shared.clock import VirtualClock
from tests.integration.api_world import DEPLOYMENT, TOKEN_KEY, World, message_of
from tests.integration.test_api_web_pages import key_of, never_asked_for

MIB = 2**20
BOUNDS = BodyBounds(size=4 * MIB, seconds=20, total=16 * MIB)
"""Shares of 8, 4 and 4 MiB."""


# -- the token before the body


@pytest.mark.parametrize("route", ["POST /agent/jobs/{id}/report", "PUT /callback/{id}"])
async def test_without_a_good_token_nothing_of_a_body_is_read(world: World, route: str) -> None:
    agent, other = await world.running(), await world.running()
    method, path = route.split()
    for bearer, job_id, status in (
        (None, agent.job_id, 401),
        (secrets.token_hex(32), agent.job_id, 401),
        ("x", agent.job_id, 401),
        (agent.token, 999, 403),
        (agent.token, other.job_id, 403),
        (secrets.token_hex(32), 999, 401),
    ):
        for length in ({}, {"Content-Length": "10"}, {"Content-Length": str(3 * MIB)}):
            headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
            answer = await world.http.request(
                method,
                path.format(id=job_id),
                content=never_asked_for(),
                headers={**headers, **length},
            )
            assert answer.status_code == status
            assert message_of(answer)


async def test_without_a_bootstrap_token_nothing_of_a_claim_is_read(world: World) -> None:
    answer = await world.http.post("/agent/claim", content=never_asked_for())
    assert answer.status_code == 401


async def test_without_its_key_nothing_of_an_order_is_read(
    world: World, clock: VirtualClock
) -> None:
    await key_of(world, clock)
    for headers in ({}, {"Authorization": "Bearer djk_00000000_00"}):
        answer = await world.http.post("/schedule", content=never_asked_for(), headers=headers)
        assert answer.status_code == 401


async def test_a_token_that_was_good_a_moment_ago_is_checked_again_with_the_body(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.report(agent)  # from now on it is remembered
    await world.stage.rows("UPDATE attempts SET token_hash = NULL RETURNING 1")
    assert (await world.report(agent)).status_code == 401
    clock.advance(61)
    answer = await world.http.post(
        f"/agent/jobs/{agent.job_id}/report", content=never_asked_for(), headers=agent.headers
    )
    assert answer.status_code == 401


# -- the bounds of one body


@pytest.mark.parametrize("length", ["declared", "not declared"])
async def test_a_claim_and_a_callback_are_small_and_a_report_may_be_large(
    world: World, length: str
) -> None:
    agent = await world.running()
    bootstrap = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 1)

    async def send(method: str, path: str, bearer: str, size: int) -> int:
        answer = await world.http.request(
            method,
            path,
            content=padded(size) if length == "declared" else in_pieces(size),
            headers={"Authorization": f"Bearer {bearer}"},
        )
        if answer.status_code == 413:
            assert message_of(answer) == f"the body is larger than {SMALL_BYTES} bytes"
        return answer.status_code

    report, callback = f"/agent/jobs/{agent.job_id}/report", f"/callback/{agent.job_id}"
    assert await send("POST", report, agent.token, MIB) == 200
    assert await send("POST", "/agent/claim", bootstrap, SMALL_BYTES) == 400, "a field is missing"
    assert await send("POST", "/agent/claim", bootstrap, SMALL_BYTES + 1) == 413
    assert await send("PUT", callback, agent.token, SMALL_BYTES + 1) == 413
    assert await send("PUT", callback, agent.token, SMALL_BYTES) == 200


def padded(size: int) -> bytes:
    """An empty object with so many bytes."""
    return b"{" + b" " * (size - 2) + b"}"


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    """The same, of no declared length."""
    body = padded(size)
    for place in range(0, size, 10_000):
        yield body[place : place + 10_000]


# -- the budget of all


class Sender:
    """A client whose body comes when it is told to."""

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
    """A route that reads a sender's body, and works with it until it is told to be done."""

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


# -- over sockets


async def test_seventy_connections_with_4_mib_each_do_not_keep_a_heartbeat_out(
    world: World,
) -> None:
    agent = await world.running()
    padding = b'{"docker_image": "' + b" " * (4 * MIB - 20)
    routes = [("POST", "/schedule"), ("POST", "/agent/claim"), ("PUT", f"/callback/{agent.job_id}")]
    routes.append(("POST", f"/agent/jobs/{agent.job_id}/report"))
    with bind("127.0.0.1", 0) as sock:
        server = http_server(world.api.app)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        port = sock.getsockname()[1]
        flood = [
            asyncio.create_task(hold_open(port, *routes[number % 4], padding))
            for number in range(70)
        ]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for _ in range(20):
                answer = await http.post(
                    f"/agent/jobs/{agent.job_id}/report",
                    content=json.dumps({"phase": None, "logs": None}),
                    headers=agent.headers,
                )
                assert answer.status_code == 200
        for each in flood:
            each.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        server.stop()
        await serving


async def hold_open(port: int, method: str, path: str, body: bytes) -> None:
    """Send all of a body but its end, with a token that is none where one is needed, and stay."""
    token = "" if path == "/schedule" else f"Authorization: Bearer {'0' * 64}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {4 * MIB}\r\n{token}\r\n"
    )
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        await reader.read()
    finally:
        writer.close()
