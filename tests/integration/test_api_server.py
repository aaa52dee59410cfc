"""The API behind its real HTTP server: streams, limits, and invalid HTTP."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog

from services.api.http.server import (
    CannotListen,
    bind,
    bind_for_each,
    check_exposure,
    http_server,
)
from shared.runtime.http_flow import JOINED_BYTES, JoiningTransport
from shared.runtime.http_protocol import HEAD_BYTES, BoundedProtocol
from shared.settings import BadSetting
from tests.support.api.api_world import World


class Hasty(BoundedProtocol):
    """Bounds of production with shorter times."""

    head_seconds = 0.2


@contextlib.asynccontextmanager
async def served(
    world: World, protocol: type[BoundedProtocol] = BoundedProtocol
) -> AsyncIterator[int]:
    """Return the port at which *world* is served."""
    with bind("127.0.0.1", 0) as sock:
        server = http_server(world.api.app, protocol)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield sock.getsockname()[1]
        finally:
            server.stop()
            await serving


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}")


async def raw(port: int, *parts: bytes) -> tuple[int | None, dict[str, str]]:
    """Return the answer to these bytes: status and JSON; None if the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        async with asyncio.timeout(10):
            try:
                answer = await reader.read()
            except ConnectionError:
                return None, {}
    finally:
        writer.close()
    if not answer:
        return None, {}
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_a_log_is_followed_live_until_its_job_ends(world: World) -> None:
    agent = await world.running()
    await world.report(agent, lines=["before"], seq=1)
    async with (
        served(world) as port,
        client(port) as http,
        http.stream("GET", f"/jobs/{agent.job_id}/logs?follow=1") as stream,
    ):
        assert stream.status_code == 200
        assert stream.headers["cache-control"] == "no-cache"
        lines = stream.aiter_lines()

        async def upcoming(prefix: str) -> str:
            async for line in lines:
                if line.startswith(prefix):
                    return line.removeprefix(prefix)
            raise AssertionError(prefix)

        assert await upcoming("id: ") == "1.1"
        assert json.loads(await upcoming("data: "))["text"] == "before"
        await world.report(agent, lines=["live", "more"], seq=2)
        assert await upcoming("id: ") == "1.2"
        assert json.loads(await upcoming("data: "))["text"] == "live"
        await world.report(agent, lines=["last"], seq=3)
        await world.call_back(agent, {})
        assert await upcoming("id: ") == "1.3"
        assert await upcoming("event: ") == "end"
        assert json.loads(await upcoming("data: ")) == {"status": "DONE", "exit_code": 0}
        assert [line async for line in lines if line] == []


async def test_a_follower_that_leaves_is_forgotten_and_is_no_error(world: World) -> None:
    agent = await world.running()
    await world.report(agent, lines=["hello"])
    with structlog.testing.capture_logs() as entries:
        async with served(world) as port, client(port) as http:
            path = f"/jobs/{agent.job_id}/logs?follow=1"
            async with http.stream("GET", path) as stream:
                await anext(stream.aiter_lines())
            assert (await http.get("/healthz")).status_code == 200
    assert [entry for entry in entries if entry["log_level"] == "error"] == []


async def test_all_jobs_are_streamed_over_a_socket(world: World) -> None:
    body = [{"docker_image": "alpine", "scheduled_for": "now"}] * 600
    async with served(world) as port, client(port) as http:
        await http.post("/schedule", json=body)
        answer = await http.get("/list?limit=all")
    assert len(answer.json()) == 600


async def test_an_unexpected_error_is_a_json_500_and_the_server_goes_on(world: World) -> None:
    async with world.ports.db.connection() as conn:
        job_id = (await world.post())["id"]
        await conn.execute("UPDATE attempts SET runtime = 'podman'")
    async with served(world) as port, client(port) as http:
        answer = await http.get(f"/status/{job_id}")
        assert (answer.status_code, answer.json()) == (500, {"message": "internal error"})
        assert (await http.get("/healthz")).status_code == 200


async def test_a_forwarded_address_does_not_raise_the_rate(world: World) -> None:
    limited = world.again(REQUESTS_PER_SECOND="0.001", REQUESTS_AT_ONCE="1")
    async with served(limited) as port, client(port) as http:
        statuses = [
            (await http.get("/list", headers={"X-Forwarded-For": f"10.0.0.{each}"})).status_code
            for each in range(2)
        ]
    await limited.close()
    assert statuses == [200, 429]


async def test_what_is_no_http_is_a_json_400_and_the_server_goes_on(world: World) -> None:
    async with served(world) as port:
        for garbage in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10,
            b"hello\r\n\r\n",
            b"GET /list HTTP/9.9\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /list HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"GET /list HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 100 + b"\r\n\r\n",
            b"GET /list HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
            b"POST /schedule HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"CONNECT x:443 HTTP/1.1\r\n\r\n",
        ):
            status, body = await raw(port, garbage)
            assert status == 400, garbage
            assert body["message"]
        async with client(port) as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_a_head_that_is_too_large_is_a_431(world: World) -> None:
    async with served(world) as port:
        line = b"X-Header: " + b"x" * 8000 + b"\r\n"
        status, body = await raw(port, b"GET /list HTTP/1.1\r\n", *[line] * 200)
        # The rest may still be on its way when the answer is written: then the connection is reset.
        assert status in (431, None)
        assert not body or "larger than" in body["message"]
        status, body = await raw(port, b"GET /" + b"x" * (HEAD_BYTES + 1))
        assert (status, "larger than" in body["message"]) == (431, True)


async def test_a_head_that_does_not_come_is_closed_in_time(world: World) -> None:
    async with served(world, Hasty) as port:
        assert await raw(port) == (None, {})
        status, body = await raw(port, b"GET /list HTTP/1.1\r\nHost")
        assert (status, body["message"]) == (408, "the request's head did not come within 0.2 s")
        # Empty lines after an answer are no request either.
        done = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(done)
        await reader.readuntil(b"alive")
        writer.write(b"\r\n")
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()


async def test_a_long_answer_outlives_the_time_for_a_head(world: World) -> None:
    agent = await world.running()
    await world.report(agent, lines=["hello"])
    async with served(world, Hasty) as port, client(port) as http:
        path = f"/jobs/{agent.job_id}/logs?follow=1"
        async with http.stream("GET", path) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            await asyncio.get_running_loop().run_in_executor(None, _wait_closed, port)
            await world.call_back(agent, {})
            assert "event: end" in [line async for line in lines]


def _wait_closed(port: int) -> None:
    """Return when the server has closed an idle connection: the time for a head is over."""
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.recv(1)


class Counting(BoundedProtocol):
    """Counts the requests that wait for their turn."""

    most = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        Counting.most = max(Counting.most, len(self.pipeline))


async def test_a_flood_of_requests_waits_in_the_client(world: World) -> None:
    """Otherwise each answer lets thousands of further requests into the API's memory."""
    count, one = 30_000, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served(world, Counting) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(one * (count - 1) + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        async with asyncio.timeout(60):
            answers = await reader.read()
        writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == count
    assert Counting.most <= 262_144 // len(one) + 1  # of one read of the socket


async def test_a_body_that_does_not_come_is_a_408(world: World) -> None:
    hasty = world.again(BODY_SECONDS="0.2")
    async with served(hasty) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /schedule HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readline()
        writer.close()
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body) == {"message": "the body did not come within 0.2 s"}
    await hasty.close()


async def test_a_body_over_the_limit_is_a_413_over_a_socket(world: World) -> None:
    async with served(world) as port, client(port) as http:
        answer = await http.post("/schedule", content=b" " * (5 * 2**20))
        assert answer.status_code == 413
        assert (await http.get("/healthz")).status_code == 200


async def test_head_brings_no_body(world: World) -> None:
    job = await world.post()
    async with served(world) as port, client(port) as http:
        for path in ("/list", "/list?limit=all", f"/jobs/{job['id']}/logs?follow=1"):
            answer = await http.head(path)
            assert (answer.status_code, answer.content) == (200, b"")


async def test_a_taken_port_is_one_clear_line() -> None:
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"^Cannot listen on 127\.0\.0\.1 port {port}: "):
            bind("127.0.0.1", port)
    with pytest.raises(CannotListen, match=r"Cannot listen on no-such-host\.invalid"):
        bind("no-such-host.invalid", 0)


@pytest.mark.parametrize("host", ["::1", "[::1]", "0:0:0:0:0:0:0:1"])
async def test_an_ipv6_address_is_listened_on_with_or_without_brackets(
    world: World, host: str
) -> None:
    with bind(host, 0) as sock:
        server = http_server(world.api.app)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        url = f"http://[::1]:{sock.getsockname()[1]}/list"
        async with httpx.AsyncClient() as http:
            assert (await http.get(url)).status_code == 200
        server.stop()
        await serving
    several = bind_for_each(host, 0, 2)
    assert {sock.getsockname()[0] for sock in several} == {"::1"}
    for sock in several:
        sock.close()


async def test_every_ipv6_address_is_every_address(world: World) -> None:
    with bind("::", 0) as sock:
        server = http_server(world.api.app)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        async with client(sock.getsockname()[1]) as http:
            assert (await http.get("/list")).status_code == 200
        server.stop()
        await serving


@pytest.mark.parametrize(
    "host", ["::1", "[::1]", "localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9"]
)
async def test_loopback_needs_no_key(world: World, host: str) -> None:
    await check_exposure(host, world.ports.db, "program")


@pytest.mark.parametrize("host", ["::", "[::]", "0.0.0.0", "192.168.1.5", "fd00::7", "example.com"])
async def test_every_other_address_needs_a_key(world: World, host: str) -> None:
    with pytest.raises(BadSetting, match="there is no API key"):
        await check_exposure(host, world.ports.db, "program")


class Written(asyncio.Transport):
    """A transport that records its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append("closed")


async def test_what_is_written_in_one_turn_is_one_write() -> None:
    kept = Written()
    transport = JoiningTransport(kept, asyncio.get_running_loop())
    transport.write(b"head ")
    transport.write(b"body")
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert kept.done == [b"head body", b"next"]


async def test_nothing_is_lost_or_changes_places_when_it_is_closed() -> None:
    kept = Written()
    transport = JoiningTransport(kept, asyncio.get_running_loop())
    transport.write(b"last bytes")
    transport.close()
    await asyncio.sleep(0)
    assert kept.done == [b"last bytes", "closed"]


async def test_what_is_much_goes_out_at_once() -> None:
    """Otherwise a stream that never waits fills the memory: only its transport makes it wait."""
    kept = Written()
    transport = JoiningTransport(kept, asyncio.get_running_loop())
    much = b"x" * JOINED_BYTES
    transport.write(much)
    assert kept.done == []
    transport.write(b"y")
    assert kept.done == [much + b"y"]
    await asyncio.sleep(0)
    assert len(kept.done) == 1
