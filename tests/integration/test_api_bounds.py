"""The API's bounds: no client makes it wait for ever, read without end, or fail at a body."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.http.server import bind, http_server
from services.api.submission.request import FIELDS
from shared.runtime.http_protocol import BoundedProtocol
from tests.support.api.api_world import World, message_of

MIB = 2**20
DRIP_SECONDS = 0.02


class Hasty(BoundedProtocol):
    """Bounds of production with shorter times."""

    head_seconds = 0.3


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[int]:
    """Return the port at which *world* is served."""
    with bind("127.0.0.1", 0) as sock:
        server = http_server(world.api.app, Hasty)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield sock.getsockname()[1]
        finally:
            server.stop()
            await serving


async def drip(port: int, at_once: bytes, then: bytes) -> bytes:
    """Send *at_once*, and then a byte of *then* at intervals; return the answer.

    A byte that crosses the close resets the connection, and may take the answer along: then again.
    """
    for _ in range(3):
        answer = await _drip_once(port, at_once, then)
        if answer:
            return answer
    return b""


async def _drip_once(port: int, at_once: bytes, then: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(at_once)
    answering = asyncio.ensure_future(reader.read())
    try:
        async with asyncio.timeout(10):
            for place in range(len(then)):
                done, _ = await asyncio.wait({answering}, timeout=DRIP_SECONDS)
                if done:
                    break
                with contextlib.suppress(ConnectionError):
                    writer.write(then[place : place + 1])
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                return await answering
    finally:
        answering.cancel()
        writer.close()
    return b""


async def flood(port: int, head: bytes, chunk: bytes, times: int) -> tuple[bytes, int]:
    """Send *head* and then *chunk* repeatedly; return the answer and the number of chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answering = asyncio.ensure_future(reader.read(65_536))
    sent = 0
    try:
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                writer.write(head)
                while sent < times and not answering.done():
                    writer.write(chunk)
                    await writer.drain()
                    await asyncio.sleep(0)
                    sent += 1
            with contextlib.suppress(ConnectionError):
                return await answering, sent
    finally:
        answering.cancel()
        writer.close()
    return b"", sent


async def test_a_head_that_comes_byte_by_byte_is_closed_in_time(world: World) -> None:
    async with served(world) as port:
        answer = await drip(port, b"GET /list HTTP/1.1\r\n", b"X-Slow: " + b"x" * 500)
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_comes_byte_by_byte_is_a_408_in_time(world: World) -> None:
    hasty = world.again(BODY_SECONDS="0.3")
    head = b"POST /schedule HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
    async with served(hasty) as port:
        answer = await drip(port, head, b"x" * 500)
    await hasty.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_header_of_200_kb_is_refused_and_not_sat_on(world: World) -> None:
    async with served(world) as port:
        head = b"GET /list HTTP/1.1\r\nHost: x\r\nX-Large: "
        answer, _ = await flood(port, head, b"x" * 20_000, 10)
        # What is still on its way when the answer is written resets the connection.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_a_body_of_64_mib_is_refused_at_its_limit_whether_or_not_it_says_its_length(
    world: World,
) -> None:
    limit = world.config.http.body.size // MIB
    declared = f"POST /schedule HTTP/1.1\r\nHost: localhost\r\nContent-Length: {64 * MIB}\r\n\r\n"
    chunked = "POST /schedule HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(world) as port:
        for head, chunk in (
            (declared, b" " * MIB),
            (chunked, b"100000\r\n" + b" " * MIB + b"\r\n"),
        ):
            answer, sent = await flood(port, head.encode(), chunk, 64)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
            # What the sockets hold on the way comes on top of what was read.
            assert sent <= limit + 16
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_idle_connections_delay_no_other_and_are_closed_in_time(
    world: World,
) -> None:
    async with served(world) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/list")).status_code == 200
        async with asyncio.timeout(10):
            assert await asyncio.gather(*(reader.read() for reader, _ in idle)) == [b""] * 300
        for _, writer in idle:
            writer.close()


# -- whatever it is sent

HOSTILE = st.one_of(
    st.sampled_from(
        [
            "\0", "a\0b", "\ud800", "\udfff\ud800", "\x1b[31m", "a\nb", "\u202e", "'; DROP", "{}",
            "9" * 400, "-1", "1e400", "NaN", "\N{REPLACEMENT CHARACTER}", "a" * 5000,
        ]
    ),
    st.text(max_size=40),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(HOSTILE, st.none(), st.booleans(), st.integers(), st.floats(), st.just(2**70)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(HOSTILE, inner, max_size=3)
    ),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(
    lambda chosen: {"docker_image": "alpine", "scheduled_for": "now", **chosen}
)
CALLS = st.dictionaries(
    st.sampled_from(
        [
            "schedule", "failed", "error_message", "exit_code", "stopped", "timed_out",
            "pull_failed", "for_good", "phase", "logs", "rebalance",
        ]
    ),
    st.one_of(
        VALUES,
        st.fixed_dictionaries(
            {
                "seq": VALUES,
                "lines": st.lists(
                    st.fixed_dictionaries({"at": VALUES, "stream": VALUES, "text": VALUES}),
                    max_size=2,
                ),
            }
        ),
    ),
    max_size=4,
)  # fmt: skip
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def as_json(value: Any) -> bytes:
    """Write JSON as a careless client does: lone surrogates and NaN included."""
    return json.dumps(value).encode()


def is_answered(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert message_of(answer)


@FUZZ
@given(body=st.one_of(BODIES, VALUES))
async def test_no_body_of_a_job_is_a_server_error(world: World, body: Any) -> None:
    is_answered(await world.http.post("/schedule", content=as_json(body)))


@FUZZ
@given(body=CALLS)
async def test_no_call_of_an_agent_is_a_server_error(world: World, body: Any) -> None:
    agent = await world.running()
    for method, path in (
        ("POST", f"/agent/jobs/{agent.job_id}/report"),
        ("PUT", f"/callback/{agent.job_id}"),
        ("POST", "/agent/claim"),
    ):
        is_answered(
            await world.http.request(method, path, content=as_json(body), headers=agent.headers)
        )


@FUZZ
@given(text=HOSTILE, name=st.sampled_from(["limit", "cursor", "status", "label", "follow", "x"]))
async def test_no_address_is_a_server_error(world: World, text: str, name: str) -> None:
    safe = text.encode(errors="replace").decode()
    for path in ("/list", "/jobs/1/logs", "/status/1"):
        is_answered(await world.http.get(path, params={name: f"a:{safe}"}))
        is_answered(await world.http.get(path, params={name: safe}))
    quoted = "".join(f"%{byte:02x}" for byte in safe.encode())[:3000]
    for path in (f"/status/{quoted}", f"/jobs/{quoted}/logs", f"/{quoted}"):
        is_answered(await world.http.get(path))
    is_answered(await world.http.delete(f"/jobs/{quoted}"))
