"""The health server of a service that has no other: the same bounds as the API's."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.runtime.health import bind_health, serve_health
from shared.runtime.readiness import Readiness
from shared.settings import BadSetting, Settings
from tests.support.run.ports import free_port
from tests.support.servers.raw_http import exchange

REST = b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"


async def look() -> Readiness:
    return Readiness({}, {})


@contextmanager
def serving(**settings: str) -> Iterator[int]:
    """Serve health on a port."""
    environ = {f"DOCKER_JOB_{name}": value for name, value in settings.items()}
    sock = bind_health(Settings({"DOCKER_JOB_HEALTH_PORT": str(free_port()), **environ}))
    assert sock is not None
    stop, loop = asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(serve_health(sock, look, stop))
    )
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        sock.close()


@pytest.fixture
def port() -> Iterator[int]:
    """Serve health on loopback."""
    with serving() as port:
        yield port


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /healthz", 200),
        (b"HEAD /readyz", 200),
        (b"GET /readyz?any=1&any=2", 200),
        (b"GET /healthz/", 404),
        (b"GET //healthz", 404),
        (b"GET /", 404),
        (b"POST /healthz", 405),
        (b"OPTIONS /healthz", 405),
        (b"CONNECT /healthz", 400),
    ],
)
def test_every_answer_is_json_and_none_a_redirect(port: int, line: bytes, status: int) -> None:
    head = line.startswith(b"HEAD")
    [answer] = exchange(port, line + REST, head=head)
    assert answer.status == status
    assert "location" not in answer.headers
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert head or answer.json["message" if status >= 400 else "status"]


def test_an_upgrade_and_junk_are_answered_as_by_the_api(port: int) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost: x\r\n\r\n"
    answers = exchange(port, b"GET /healthz HTTP/1.1\r\n" + upgrade + b"junk\r\n\r\n")
    assert [answer.status for answer in answers] == [200, 400]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_health_is_served_on_ipv6(host: str) -> None:
    with (
        serving(HEALTH_HOST=host) as port,
        socket.create_connection(("::1", port), timeout=20) as talking,
    ):
        talking.sendall(b"GET /healthz" + REST)
        assert b"alive" in b"".join(iter(lambda: talking.recv(65_536), b""))


def test_an_address_that_is_none_is_one_clear_line() -> None:
    with (
        pytest.raises(BadSetting, match=r"cannot listen on no-such-host\.invalid"),
        serving(HEALTH_HOST="no-such-host.invalid"),
    ):
        pass
