"""What request bodies can take of the API's memory: the token comes before the body."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest

from services.api.http.bodies import SMALL_BYTES
from services.api.http.server import bind, http_server
from shared import tokens
from shared.clock import VirtualClock
from tests.integration.test_api_web_pages import key_of, never_asked_for
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, World, message_of

MIB = 2**20


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


async def test_without_its_key_nothing_of_a_request_is_read(
    world: World, clock: VirtualClock
) -> None:
    await key_of(world, clock)
    for headers in ({}, {"Authorization": "Bearer djk_00000000_00"}):
        answer = await world.http.post("/schedule", content=never_asked_for(), headers=headers)
        assert answer.status_code == 401


async def test_a_token_that_was_good_before_is_checked_again_with_the_body(
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
