"""The API as two processes behind one port: real ones, with a bus in memory each."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from operations.migrate import service_dsn
from services.api.processes.siblings import SharedTable
from shared.runtime.process import EXIT_CRASH
from shared.settings import EXIT_SETTING
from tests.conftest import PASSWORDS
from tests.integration.conftest import migrated_database

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
JOB = json.dumps({"docker_image": "alpine", "scheduled_for": "+1d"}).encode()


@pytest.fixture(scope="module")
def database(postgres_server: str, template_database: str) -> Iterator[str]:
    """Make a migrated database; return an admin's DSN of it."""
    with migrated_database(postgres_server, template_database) as dsn:
        yield dsn


def until(happened: Callable[[], object]) -> None:
    """Wait until *happened* returns true."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two questions: each costs what is being tested some time


class Running:
    """API with its connections, each to a known process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port
        self.parent = psutil.Process(process.pid)
        self._clients: list[socket.socket] = []

    @property
    def children(self) -> list[psutil.Process]:
        """Return the processes that serve."""
        return self.parent.children()

    def connect(self, child: psutil.Process) -> socket.socket:
        """Open a connection that *child* serves: the kernel alone decides which one gets it."""
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
            self._clients.append(client)
            if self._server_of(client) == child:
                return client
        raise AssertionError("none of 200 connections came to it")

    def _server_of(self, client: socket.socket) -> psutil.Process:
        own = client.getsockname()[1]

        def serving() -> list[psutil.Process]:
            return [
                child
                for child in self.children
                for each in child.net_connections(kind="tcp")
                if each.status == psutil.CONN_ESTABLISHED and each.raddr.port == own
            ]

        until(serving)
        return serving()[0]

    def close(self) -> None:
        """End everything, however the test left it."""
        for client in self._clients:
            client.close()
        family = [self.parent, *(self.children if self.process.poll() is None else [])]
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(SECONDS)

    def end(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.terminate()
        return self.process.wait(SECONDS)


def ask(client: socket.socket, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Return status and body of one answer, over a connection that stays open."""
    client.sendall(head(method, path, body) + body)
    return answer_of(client)


def head(method: str, path: str, body: bytes = b"") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode()


def answer_of(client: socket.socket) -> tuple[int, bytes]:
    received = read_to(client, b"\r\n\r\n")
    start, _, rest = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in start.split(b"\r\n")[1:])
    while len(rest) < int(fields[b"content-length"]):
        rest += client.recv(65_536)
    return int(start.split()[1]), rest


def read_to(client: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        part = client.recv(65_536)
        assert part, received
        received += part
    return received


@contextlib.contextmanager
def started(database: str, **settings: str) -> Iterator[Running]:
    """Start the API with two processes, both of which serve."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = start(database, settings | {"PORT": str(port)})
    running = Running(process, port)
    try:
        until(lambda: process.poll() is not None or len(running.children) == 2)
        assert process.poll() is None
        until(lambda: all(listens(child, port) for child in running.children))
        yield running
    finally:
        running.close()


def start(
    database: str, settings: dict[str, str], errors: int = subprocess.DEVNULL
) -> "subprocess.Popen[str]":
    chosen = {
        "DATABASE_URL": service_dsn(database, "api", PASSWORDS["api"]),
        "BUS_URL": "memory://",
        "DEPLOYMENT": "test",
        "TOKEN_KEY": "a" * 64,
        "API_PROCESSES": "2",
        **settings,
    }
    inherited = {name: text for name, text in os.environ.items() if "DOCKER_JOB" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "services.api"],
        cwd=ROOT,
        env=inherited | {f"DOCKER_JOB_{name}": text for name, text in chosen.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
    )


def listens(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        connections = process.net_connections(kind="tcp")
        return any(
            each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections
        )
    return False


def has_ended(process: psutil.Process) -> bool:
    """Return whether it no longer runs, reaped or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def test_both_serve_the_same_jobs_and_a_sigterm_lets_both_answer(database: str) -> None:
    with started(database) as api:
        one, other = (api.connect(child) for child in api.children)
        status, body = ask(one, "POST", "/schedule", JOB)
        assert status == 201
        job_id = json.loads(body)["id"]
        status, body = ask(other, "GET", f"/status/{job_id}")
        assert (status, json.loads(body)["phase"]) == (200, "scheduled")

        for client in (one, other):  # a request under way in each
            client.sendall(head("POST", "/schedule", JOB) + JOB[:10])
        children = api.children
        api.process.terminate()
        until(lambda: not any(listens(child, api.port) for child in children))
        for client in (one, other):
            client.sendall(JOB[10:])
        # Neither is cut; whether a job is still taken depends on how fast all else has drained.
        assert {answer_of(client)[0] for client in (one, other)} <= {201, 503}
        assert api.process.wait(SECONDS) == 0
        assert all(has_ended(child) for child in children)


def test_a_log_is_followed_through_the_one_while_the_other_ends_the_job(database: str) -> None:
    with started(database) as api:
        one, other = (api.connect(child) for child in api.children)
        _, body = ask(one, "POST", "/schedule", JOB)
        job_id = json.loads(body)["id"]
        one.sendall(head("GET", f"/jobs/{job_id}/logs?follow=1"))
        read_to(one, b"\r\n\r\n")
        assert ask(other, "DELETE", f"/jobs/{job_id}")[0] == 200
        assert b'"status":"CANCELLED"' in read_to(one, b"data: ")
        assert api.end() == 0


def test_a_callers_limit_is_one_limit_whoever_serves_it(database: str) -> None:
    limits = {"REQUESTS_PER_SECOND": "0.001", "REQUESTS_AT_ONCE": "3"}
    with started(database, **limits) as api:
        one, other = (api.connect(child) for child in api.children)
        asked = [ask(client, "GET", "/list")[0] for client in (one, other, one, other, one)]
        assert asked == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_ends_by_itself_ends_both(database: str, number: signal.Signals) -> None:
    """The supervisor then restarts the API as a whole."""
    with started(database) as api:
        first, second = api.children
        first.send_signal(number)
        assert api.process.wait(SECONDS) == (137 if number == signal.SIGKILL else EXIT_CRASH)
        assert has_ended(second)


def test_with_their_parent_both_end_and_the_port_is_free(database: str) -> None:
    with started(database) as api:
        children = api.children
        api.process.kill()
        until(lambda: all(has_ended(child) for child in children))
        socket.create_server(("127.0.0.1", api.port)).close()


def test_a_port_that_another_listens_on_is_reported_in_one_line(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        process = start(database, {"PORT": str(taken.getsockname()[1])}, subprocess.PIPE)
        _, output = process.communicate(timeout=SECONDS)
    assert process.returncode == EXIT_SETTING
    assert output.startswith("docker-job api: Cannot listen on 127.0.0.1 port ")
    assert len(output.splitlines()) == 1


def test_a_full_table_forgets_the_smallest_number_and_so_no_caller_that_is_over_its_limit() -> None:
    table = SharedTable()
    over = [f"over {number}" for number in range(500)]
    for name in over:
        table.write(name, 1000.0)
    for number in range(100_000):
        table.write(f"10.0.{number // 256}.{number % 256}", 1.0)
    kept = sum(table.read(name) == 1000.0 for name in over)
    print(f"100000 other names: {kept} of {len(over)} exhausted ones are remembered")
    assert kept == len(over)
    assert table.read("10.0.390.159") == 1.0
    assert table.read("unknown") is None
    table.remove(over[0])
    assert table.read(over[0]) is None
