"""Slow clients: many that send or read a drop at a time, and one that is served meanwhile.

The head and the body alone are in `test_api_bounds.py`. Here they are many at once, of a real
server, and each holds its connection as long as it is let.
"""

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from shared.runtime.http_protocol import BoundedProtocol
from tests.integration.conftest import migrated_database
from tests.support.api.served_world import SERVED, ServedWorld, served_world
from tests.support.servers.raw_http import connect

SLOW = 60
HOST = b"Host: localhost\r\n"
ANSWER_SECONDS = 5.0
"""The time in which another client is answered; alone it takes some milliseconds."""


@pytest.fixture(scope="module")
def hasty(postgres_server: str, template_database: str) -> Iterator[ServedWorld]:
    """Serve an API that waits for a body for a second."""
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(database, **SERVED, BODY_SECONDS="1") as served,
    ):
        yield served


@pytest.fixture(autouse=True)
def one_second_for_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a refused body has the time of a head as well."""
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 1.0)


@contextlib.contextmanager
def connections(port: int, head: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that have sent *head*."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(connect(port)) for _ in range(SLOW)]
        for each in found:
            each.sendall(head)
        yield found


def drip(slow: list[socket.socket], served: ServedWorld) -> int:
    """Send a byte on each until the server has closed all; return how many others it served."""
    left, answered, end = list(slow), 0, time.monotonic() + 30
    with httpx.Client(base_url=served.base_url, timeout=ANSWER_SECONDS) as other:
        while left and time.monotonic() < end:
            assert other.get("/healthz").status_code == 200
            answered += 1
            for each in list(left):
                each.settimeout(0)
                try:
                    each.send(b"x")
                    if each.recv(65_536) == b"":
                        left.remove(each)
                except BlockingIOError:
                    pass
                except OSError:
                    left.remove(each)
    assert left == [], f"{len(left)} slow clients keep their connection"
    return answered


HEADS = {
    "nothing but a head that never ends": b"GET /list HTTP/1.1\r\n" + HOST + b"X-Slow: ",
    "a request line that never ends": b"GET /",
}
BODIES = {
    "a body of a declared length": b"Content-Length: 5000\r\n\r\n",
    "a chunk": b"Transfer-Encoding: chunked\r\n\r\n1388\r\n",
    "an extension of a chunk": b"Transfer-Encoding: chunked\r\n\r\n1;a=",
    "a trailer": b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
}


@pytest.mark.parametrize("shape", HEADS)
def test_heads_that_drip_are_closed_in_time_and_delay_nobody(
    hasty: ServedWorld, shape: str
) -> None:
    with connections(hasty.port, HEADS[shape]) as slow:
        answered = drip(slow, hasty)
    print(f"{SLOW} of {SLOW} slow clients closed; {answered} of {answered} others answered")


@pytest.mark.parametrize("shape", BODIES)
@pytest.mark.parametrize("line", [b"POST /schedule", b"POST /plan"])
def test_bodies_that_drip_are_closed_in_time_and_delay_nobody(
    hasty: ServedWorld, shape: str, line: bytes
) -> None:
    head = line + b" HTTP/1.1\r\n" + HOST + BODIES[shape]
    with connections(hasty.port, head) as slow:
        answered = drip(slow, hasty)
    print(f"{SLOW} of {SLOW} slow clients closed; {answered} of {answered} others answered")


def test_bodies_of_agents_that_drip_are_closed_in_time(hasty: ServedWorld) -> None:
    agent = hasty.do(hasty.world.running())
    line = b"POST /agent/jobs/%d/report HTTP/1.1\r\n" % agent.job_id
    token = b"Authorization: Bearer " + agent.token.encode() + b"\r\n"
    with connections(hasty.port, line + HOST + token + b"Content-Length: 5000\r\n\r\n") as slow:
        answered = drip(slow, hasty)
    print(f"{SLOW} of {SLOW} slow agents closed; {answered} of {answered} others answered")


def test_clients_that_read_no_answer_delay_nobody(hasty: ServedWorld) -> None:
    """Each asks for much, again and again, and reads none of it."""
    agent = hasty.do(hasty.world.running())
    for seq in range(1, 11):
        hasty.do(hasty.world.report(agent, lines=["x" * 4000] * 20, seq=seq))
    request = b"GET /jobs/%d/logs HTTP/1.1\r\n" % agent.job_id + HOST + b"\r\n"
    with connections(hasty.port, request * 20):
        with httpx.Client(base_url=hasty.base_url, timeout=ANSWER_SECONDS) as other:
            answers = [other.get(path).status_code for path in ("/healthz", "/list", "/about") * 5]
            assert answers == [200] * 15
            assert hasty.do(hasty.world.report(agent)).status_code == 200
        print(f"{len(answers)} of {len(answers)} others answered beside {SLOW} that read nothing")
