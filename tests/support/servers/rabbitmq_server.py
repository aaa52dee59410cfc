"""RabbitMQ for tests: one broker for all workers of a run, started when a test first asks.

Which kinds there are: `rabbitmq_kinds`. Each test takes a virtual host of its own (`fresh_vhost`),
so that no test meets another's queues; one that stops or freezes a broker takes one of its own
(`broker_to_break`).
"""

import contextlib
import json
import os
import subprocess
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import urlsplit

import pytest

from tests.support.run.state import this_run
from tests.support.servers.rabbitmq_kinds import (
    ADMIN,
    GIVEN,
    IMAGE,
    INSTALLED,
    GivenServer,
    PrivateNode,
    RabbitContainer,
    RabbitServer,
    run_command,
)


@cache
def engine_answers() -> bool:
    """Return whether there is a Docker engine that has the image or can pull it."""
    if not _succeeds(["docker", "version"]):
        return False
    return _succeeds(["docker", "image", "inspect", IMAGE]) or _succeeds(["docker", "pull", IMAGE])


def _succeeds(command: list[str]) -> bool:
    try:
        run_command(command)
    except (OSError, RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


@cache
def server_is_installed() -> bool:
    """Return whether a rabbitmq-server is installed on this machine."""
    return next(INSTALLED.glob("rabbitmq_server-*/sbin/rabbitmq-server"), None) is not None


@contextlib.contextmanager
def fresh_vhost(server: RabbitServer, *, remove: bool = True) -> Iterator[str]:
    """Return the address of an empty virtual host, which is removed after the block.

    Pass *remove* as false for a broker that the test restarts: deleting a queue that is recovering
    can end the supervisor of all dead-letter workers there, and then no queue of ours can be
    declared (rabbitmq-server issue 16652).

    A given broker without a management API has only its own virtual host, which is used as it is.
    """
    if server.management_url is None:
        yield server.url
        return
    name = f"test-{uuid.uuid4().hex[:12]}"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    user = urlsplit(server.url).username or ADMIN
    manage(server.management_url, "PUT", f"/api/vhosts/{name}", {})
    manage(server.management_url, "PUT", f"/api/permissions/{name}/{user}", everything)
    yield server.url.rstrip("/") + "/" + name
    if remove:
        manage(server.management_url, "DELETE", f"/api/vhosts/{name}")


def manage(management_url: str, method: str, path: str, body: object = None) -> object:
    """Call the management API once; return its answer, decoded."""
    parts = urlsplit(management_url)
    login = b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310  # a broker of this test run
        f"{parts.scheme}://{parts.hostname}:{parts.port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Basic {login}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        raw = answer.read()
    return json.loads(raw) if raw else None


class Brokers:
    """The brokers of one test run, each started when it is first asked for."""

    def get(self, kind: str) -> RabbitServer:
        """Return the broker of this *kind*, one of `KINDS`; skip the test if it is unavailable."""
        made, why_not = KINDS[kind]
        reason = why_not()
        if reason is not None:
            pytest.skip(reason)
        facts = this_run().shared(f"broker-{kind}", lambda: made.make().facts)
        return made(facts)

    def best(self) -> RabbitServer:
        """Return the first available kind."""
        return self.get(self._best_kind())

    def own(self) -> RabbitServer:
        """Start another of that kind, for a test that breaks and removes it."""
        made, _ = KINDS[self._best_kind()]
        if made is GivenServer:
            pytest.skip("a broker that is given is not ours to break")
        return made.make()

    def _best_kind(self) -> str:
        reasons = []
        for kind, (_, why_not) in KINDS.items():
            reason = why_not()
            if reason is None:
                return kind
            reasons.append(reason)
        pytest.skip("no RabbitMQ: " + "; ".join(reasons))


def _no_engine() -> str | None:
    return None if engine_answers() else f"no Docker engine that has {IMAGE}"


def _none_given() -> str | None:
    return None if os.environ.get(GIVEN) else f"{GIVEN} is not set"


def _not_installed() -> str | None:
    return None if server_is_installed() else "no rabbitmq-server is installed"


Made = type[RabbitContainer] | type[GivenServer] | type[PrivateNode]
KINDS: dict[str, tuple[Made, Callable[[], str | None]]] = {
    "container": (RabbitContainer, _no_engine),
    "given": (GivenServer, _none_given),
    "installed": (PrivateNode, _not_installed),
}
"""How to start each kind of broker, and what is missing where it cannot be had. The best comes
first."""


@pytest.fixture(scope="session")
def brokers() -> Brokers:
    """Return the brokers of this run."""
    return Brokers()


@pytest.fixture
def rabbitmq(brokers: Brokers) -> RabbitServer:
    """Return the best broker that there is, for tests that are the same on each."""
    return brokers.best()


@pytest.fixture(scope="session")
def broker_to_break(brokers: Brokers) -> Iterator[RabbitServer]:
    """Return a broker of this worker's own; each test leaves it running."""
    server = brokers.own()
    yield server
    server.remove()
