"""The agent's HTTP before servers and proxies that answer in odd ways."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from agent.docker_job_agent.errors import UnreachableError
from agent.docker_job_agent.http_client import Answer, Http
from agent.docker_job_agent.metadata import read_date

PATIENCE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(answer: Callable[[socket.socket], object], seconds: float) -> Iterator[Http]:
    """Give a client of a server that reads a request and then does *answer*, on one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as talking:
                while talking.recv(65_536):
                    if answer(talking) is not None:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        http = Http(f"http://127.0.0.1:{listening.getsockname()[1]}", seconds)
        try:
            yield http
        finally:
            http.close()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def asked(answer: bytes, *, ends: bool = False, times: int = 1) -> list[Answer]:
    """Return the answers to as many requests; *ends*: the server closes behind its first one."""

    def send(talking: socket.socket) -> object:
        talking.sendall(answer)
        return "closed" if ends else None

    with answering(send, PATIENCE) as http:
        return [http.request("GET", "/", {}) for _ in range(times)]


@pytest.mark.parametrize(
    "interim",
    [
        HINTS,
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + HINTS,
        b"HTTP/1.1 199 Unknown\r\nA: b\r\n\r\n",
    ],
)
def test_an_interim_answer_is_not_the_answer(interim: bytes) -> None:
    answers = asked(interim + OK, times=3)
    assert [(each.status, each.text) for each in answers] == [(200, "{}")] * 3


@pytest.mark.parametrize(
    "cut",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"a": 1}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n",
        CHUNKED + b'8\r\n{"a": 1}\r\n',
    ],
)
def test_an_answer_that_is_cut_off_is_none(cut: bytes) -> None:
    with pytest.raises(UnreachableError, match="IncompleteRead"):
        asked(cut, ends=True)


@pytest.mark.parametrize(
    "whole",
    [
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        CHUNKED + b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\nX-Trailer: x\r\n\r\n",
    ],
)
def test_an_answer_may_end_with_the_connection(whole: bytes) -> None:
    [answer] = asked(whole, ends=True)
    assert (answer.status, answer.text) == (200, "{}")


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", CHUNKED, HINTS])
def test_an_answer_that_comes_in_drops_without_end_is_none(start: bytes) -> None:
    """A report that never ends would be the last: the agent would count as lost."""
    drop = {CHUNKED: b"1\r\nx\r\n", HINTS: HINTS}.get(start, b"x")
    stop = threading.Event()

    def drip(talking: socket.socket) -> object:
        talking.sendall(start)
        while not stop.wait(0.02):
            talking.sendall(drop)
        return "closed"

    watch = threading.Timer(PATIENCE, stop.set)
    watch.start()
    try:
        with answering(drip, 0.1) as http, pytest.raises(UnreachableError, match=r"timed|too long"):
            http.request("GET", "/", {})
        assert not stop.is_set()
    finally:
        stop.set()
        watch.cancel()


def test_a_connection_is_kept_with_its_own_timeout() -> None:
    first = threading.Event()

    def answer(talking: socket.socket) -> object:
        if not first.is_set():
            first.set()
            talking.sendall(OK[:20])
            talking.sendall(OK[20:])
        else:
            talking.sendall(OK)
        return None

    with answering(answer, PATIENCE) as http:
        assert http.request("GET", "/", {}).status == 200
        kept = http._connection.sock
        assert kept.gettimeout() == PATIENCE
        assert http.request("GET", "/", {}).status == 200
        assert http._connection.sock is kept


@pytest.mark.parametrize("date", ["", "x", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_date_that_is_none_is_none(date: str) -> None:
    assert read_date(date) is None
