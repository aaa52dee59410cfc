"""RabbitMQ for tests: whichever of these the machine can have, started when a test first asks.

    RabbitContainer      rabbitmq:4-management through testcontainers
    PrivateNode          the installed `rabbitmq-server` (Debian's is 3.10), in a directory of its
    own
    GivenServer          whatever `DOCKER_JOB_TEST_BUS_URL` names: it is nobody's to stop

Each test takes a virtual host of its own (`fresh_vhost`), so that nobody meets another's queues.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

IMAGE = "rabbitmq:4-management"
START_SECONDS = 90.0
INSTALLED = Path("/usr/lib/rabbitmq/lib")
GIVEN = "DOCKER_JOB_TEST_BUS_URL"
ADMIN = "guest"  # the server's default: a node here listens on loopback, for one test run


class CannotFault(Exception):
    """This server is not ours to stop or to command."""


class RabbitServer(Protocol):
    """A broker that tests may fill, and, where it is ours, break."""

    name: str
    url: str
    """The admin's address of the default virtual host."""
    management_url: str | None

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on the node; returns what it printed."""
        ...

    def stop(self) -> None:
        """Stop the broker by the book; its data stays."""
        ...

    def start(self) -> None:
        """Start it (again) on the same port; returns when its listener is up."""
        ...

    def kill(self) -> None:
        """End it as a power cut would."""
        ...

    def freeze(self) -> None:
        """Let it hang: its sockets stay open and say nothing."""
        ...

    def thaw(self) -> None:
        """Let it go on."""
        ...

    def remove(self) -> None:
        """Leave nothing behind."""
        ...


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class RabbitContainer:
    """RabbitMQ 4. Its ports are chosen here: a restart would change the engine's own choice."""

    name = "RabbitMQ 4 in a container"

    def __init__(self) -> None:
        testcontainers_config.ryuk_disabled = True  # one image less to pull; `remove` tidies up
        amqp, http = free_port(), free_port()
        self.url = f"amqp://{ADMIN}:{ADMIN}@127.0.0.1:{amqp}/"
        self.management_url: str | None = f"http://{ADMIN}:{ADMIN}@127.0.0.1:{http}"
        self._container = DockerContainer(IMAGE)
        # `with_bind_ports` would listen on every address.
        self._container.ports = {
            "5672": ("127.0.0.1", amqp),  # type: ignore[dict-item]  # docker takes an address too
            "15672": ("127.0.0.1", http),  # type: ignore[dict-item]
        }
        self._container.start()
        self._await_listener()

    @property
    def container_name(self) -> str:
        """What the engine calls it."""
        name: str = self._container.get_wrapped_container().name
        return name

    def ctl(self, *arguments: str) -> str:
        return _run(["docker", "exec", self.container_name, "rabbitmqctl", "-q", *arguments])

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=20)

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        self._await_listener()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        self._container.get_wrapped_container().unpause()

    def remove(self) -> None:
        self._container.stop()

    def _await_listener(self) -> None:
        check = ["docker", "exec", self.container_name, "rabbitmq-diagnostics", "-q"]
        _until_listening([*check, "check_port_connectivity"])


class PrivateNode:
    """A node of the installed server, with its own epmd, that no other node here knows of."""

    name = "the installed rabbitmq-server"

    def __init__(self) -> None:
        self._programs = _installed_programs()
        self._directory = Path(tempfile.mkdtemp(prefix="docker-job-rabbitmq-"))
        amqp, http = free_port(), free_port()
        self.url = f"amqp://{ADMIN}:{ADMIN}@127.0.0.1:{amqp}/"
        self.management_url: str | None = f"http://{ADMIN}:{ADMIN}@127.0.0.1:{http}"
        self._environment = self._make_environment(amqp, http)
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.remove()
            raise

    def _make_environment(self, amqp: int, http: int) -> dict[str, str]:
        here = self._directory
        (here / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {http}\n"
        )
        (here / "plugins").write_text("[rabbitmq_management].")
        epmd = free_port()
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(here),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # may be told to end while it remembers a node
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_NODENAME": f"dockerjob{epmd}@localhost",
        }

    def ctl(self, *arguments: str) -> str:
        return _run([str(self._programs / "rabbitmqctl"), "-q", *arguments], self._environment)

    def start(self) -> None:
        with (self._directory / "output").open("ab") as output:
            self._server = subprocess.Popen(
                [str(self._programs / "rabbitmq-server")],
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        check = [str(self._programs / "rabbitmq-diagnostics"), "-q", "check_port_connectivity"]
        _until_listening(check, self._environment, self._server)

    def stop(self) -> None:
        self.ctl("stop_app")
        self.kill()

    def kill(self) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(timeout=20)
            self._server = None

    def freeze(self) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        subprocess.run(
            ["epmd", "-kill"], env=self._environment, capture_output=True, timeout=20, check=False
        )
        shutil.rmtree(self._directory, ignore_errors=True)


class GivenServer:
    """A broker that somebody else runs."""

    name = "the broker of DOCKER_JOB_TEST_BUS_URL"

    def __init__(self, url: str) -> None:
        self.url = url
        self.management_url = os.environ.get("DOCKER_JOB_TEST_BUS_MANAGEMENT_URL")

    def ctl(self, *arguments: str) -> str:
        raise CannotFault(self.name)

    def stop(self) -> None:
        raise CannotFault(self.name)

    def start(self) -> None:
        raise CannotFault(self.name)

    def kill(self) -> None:
        raise CannotFault(self.name)

    def freeze(self) -> None:
        raise CannotFault(self.name)

    def thaw(self) -> None:
        raise CannotFault(self.name)

    def remove(self) -> None:
        pass


def _until_listening(
    check: list[str],
    environment: dict[str, str] | None = None,
    server: "subprocess.Popen[bytes] | None" = None,
) -> None:
    """Repeat the health check, which itself takes about a second, until it holds."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            _run(check, environment)
        except RuntimeError:
            if time.monotonic() > deadline or (server and server.poll() is not None):
                raise
        else:
            return


def _installed_programs() -> Path:
    """Where the server's own scripts are: Debian's wrappers in /usr/sbin change the user."""
    return next(INSTALLED.glob("rabbitmq_server-*/sbin"))


@cache
def engine_answers() -> bool:
    """Whether there is a Docker engine that has the image or can pull it."""
    if not _succeeds(["docker", "version"]):
        return False
    return _succeeds(["docker", "image", "inspect", IMAGE]) or _succeeds(["docker", "pull", IMAGE])


def _succeeds(command: list[str]) -> bool:
    try:
        _run(command)
    except (OSError, RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


@cache
def server_is_installed() -> bool:
    """Whether a rabbitmq-server is installed on this machine."""
    return next(INSTALLED.glob("rabbitmq_server-*/sbin/rabbitmq-server"), None) is not None


@contextlib.contextmanager
def fresh_vhost(server: RabbitServer) -> Iterator[str]:
    """The address of a virtual host that is empty, and gone behind the block.

    A broker that somebody else runs without a management API has only its own: it is used as it is.
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
    manage(server.management_url, "DELETE", f"/api/vhosts/{name}")


def manage(management_url: str, method: str, path: str, body: object = None) -> object:
    """One call of the management API; returns what it answered, decoded."""
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

    def __init__(self) -> None:
        self._running: dict[str, RabbitServer] = {}

    def get(self, kind: str) -> RabbitServer:
        """The broker of this *kind*, one of `KINDS`; skips the test where it cannot be had."""
        make, why_not = KINDS[kind]
        server = self._running.get(kind)
        if server is None:
            reason = why_not()
            if reason is not None:
                pytest.skip(reason)
            server = self._running[kind] = make()
        return server

    def best(self) -> RabbitServer:
        """The first kind that can be had."""
        reasons = []
        for kind, (_, why_not) in KINDS.items():
            reason = why_not()
            if reason is None:
                return self.get(kind)
            reasons.append(reason)
        pytest.skip("no RabbitMQ: " + "; ".join(reasons))

    def remove(self) -> None:
        """End all of them."""
        for server in self._running.values():
            server.remove()


def _no_engine() -> str | None:
    return None if engine_answers() else f"no Docker engine that has {IMAGE}"


def _none_given() -> str | None:
    return None if os.environ.get(GIVEN) else f"{GIVEN} is not set"


def _not_installed() -> str | None:
    return None if server_is_installed() else "no rabbitmq-server is installed"


KINDS: dict[str, tuple[Callable[[], RabbitServer], Callable[[], str | None]]] = {
    "container": (RabbitContainer, _no_engine),
    "given": (lambda: GivenServer(os.environ[GIVEN]), _none_given),
    "installed": (PrivateNode, _not_installed),
}
"""How to start each kind of broker, and what is missing where it cannot be had. The best comes
first."""


@pytest.fixture(scope="session")
def brokers() -> Iterator[Brokers]:
    """The brokers of this run."""
    running = Brokers()
    yield running
    running.remove()


@pytest.fixture
def rabbitmq(brokers: Brokers) -> RabbitServer:
    """A broker for what is the same on each: the best that there is."""
    return brokers.best()
