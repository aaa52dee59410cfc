"""A job of real containers is followed through kills: no line of its log is lost or doubled."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.test_docker import docker
from tests.support.run.command_line import CommandLine, Piped
from tests.support.servers.rabbitmq_server import Brokers
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.systems.two_replicas import two_replicas

IMAGE = "debian:trixie-slim"
LINES = 120
COUNTING = f"for i in $(seq {LINES}); do echo out $i; echo err $i >&2; sleep 0.05; done; exit 5"
OUT = [f"out {number}" for number in range(1, LINES + 1)]
ERR = [f"err {number}" for number in range(1, LINES + 1)]


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    if not docker("image", "inspect", IMAGE):
        pytest.skip(f"needs a Docker engine with {IMAGE}")


@contextmanager
def counting(address: str, home: Path) -> Iterator[Piped]:
    """Run a job that counts, until some of its lines are here."""
    command = CommandLine(address, home)
    with command.piped("run", IMAGE, "sh", "-c", COUNTING) as piped:
        piped.until("out 10\n")
        yield piped


def complete(piped: Piped) -> None:
    """Check that the command ends with every line once, and the container's code."""
    assert piped.wait() == 5
    assert piped.out.splitlines() == OUT
    assert [each for each in piped.err.splitlines() if each.startswith("err ")] == ERR
    assert piped.err.splitlines()[-1].startswith("exited 5 · ")


def test_a_system_that_is_killed_and_started_again_in_the_middle_of_a_log(tmp_path: Path) -> None:
    system = EmbeddedSystem(RUNTIME="docker", HEARTBEAT_SECONDS="1")
    try:
        system.start()
        with counting(system.address, tmp_path) as piped:
            system.kill()
            piped.until("connection lost, trying again …")
            system.start()
            complete(piped)
            assert piped.err.count("connection lost") == 1
    finally:
        system.close()


def test_a_replica_that_is_killed_in_the_middle_is_replaced_by_the_other(
    postgres_server: str, template_database: str, brokers: Brokers, tmp_path: Path
) -> None:
    broker = brokers.best()
    with two_replicas(postgres_server, template_database, broker, RUNTIME="docker") as system:
        system.proxy.only = 0
        with counting(system.address, tmp_path) as piped:
            system.proxy.only = None
            system.kill(0)
            piped.until("out 60\n")
            system.start(0)
            system.kill(1)
            complete(piped)
