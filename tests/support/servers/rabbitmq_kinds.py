"""The kinds of RabbitMQ that tests can have, each started here or found again by another worker.

    RabbitContainer      rabbitmq:4-management through testcontainers
    PrivateNode          the installed `rabbitmq-server` (Debian's is 3.10), in a directory of its
    own
    GivenServer          the one of `DOCKER_JOB_TEST_BUS_URL`, which no test may stop

`facts` are all that another process needs to make the same object: `Kind(facts)`.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.support.run.ports import free_port
from tests.support.run.state import Facts, this_run

IMAGE = "rabbitmq:4-management"
START_SECONDS = 90.0
GONE_SECONDS = 20
INSTALLED = Path("/usr/lib/rabbitmq/lib")
GIVEN = "DOCKER_JOB_TEST_BUS_URL"
ADMIN = "guest"  # the server's default: a node here listens on loopback, for one test run
GREETING = b"AMQP\x00\x00\x09\x01"


class CannotFault(Exception):
    """This server is not ours to stop or to command."""


class RabbitServer(Protocol):
    """A broker that tests may fill, and, where it is the test's own, break."""

    name: str
    facts: Facts
    url: str
    """The admin's address of the default virtual host."""
    management_url: str | None

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on the node; returns what it printed."""
        ...

    def stop(self) -> None:
        """Stop the broker cleanly; its data stays."""
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
        """Let it continue."""
        ...

    def remove(self) -> None:
        """Leave nothing behind."""
        ...


def run_command(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Return the output of *command*. Raises RuntimeError if it fails."""
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class RabbitContainer:
    """RabbitMQ 4. Its ports are chosen here: a restart would change the engine's own choice."""

    name = "RabbitMQ 4 in a container"

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._container = facts["container"]
        self.url = f"amqp://{ADMIN}:{ADMIN}@127.0.0.1:{facts['amqp']}/"
        self.management_url: str | None = f"http://{ADMIN}:{ADMIN}@127.0.0.1:{facts['http']}"

    @classmethod
    def make(cls) -> "RabbitContainer":
        """Start one."""
        name = f"docker-job-test-broker-{uuid.uuid4().hex[:8]}"
        made = cls({"container": name, "amqp": str(free_port()), "http": str(free_port())})
        this_run().note("container", name)
        # Its queues write each message to the disk: in the run's directory, which is fast.
        data = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        data.chmod(0o777)  # for the user of the image
        testcontainers_config.ryuk_disabled = True  # the run's keeper removes it
        container = DockerContainer(IMAGE).with_name(name)
        container.with_volume_mapping(str(data), "/var/lib/rabbitmq", "rw")
        # `with_bind_ports` would listen on every address.
        container.ports = {
            "5672": ("127.0.0.1", int(made.facts["amqp"])),  # type: ignore[dict-item]  # docker takes
            "15672": ("127.0.0.1", int(made.facts["http"])),  # type: ignore[dict-item]  # an address
        }
        container.start()
        made._await_listener()
        return made

    def _docker(self, *arguments: str) -> str:
        return run_command(["docker", *arguments])

    def ctl(self, *arguments: str) -> str:
        return self._docker("exec", self._container, "rabbitmqctl", "-q", *arguments)

    def stop(self) -> None:
        self._docker("stop", "--time", "20", self._container)

    def start(self) -> None:
        self._docker("start", self._container)
        self._await_listener()

    def kill(self) -> None:
        self._docker("kill", self._container)

    def freeze(self) -> None:
        self._docker("pause", self._container)

    def thaw(self) -> None:
        self._docker("unpause", self._container)

    def remove(self) -> None:
        self._docker("rm", "--force", "--volumes", self._container)
        this_run().forget("container", self._container)

    def _await_listener(self) -> None:
        _until_listening(int(self.facts["amqp"]), int(self.facts["http"]), self._runs)

    def _runs(self) -> bool:
        template = "{{.State.Running}}"
        return "true" in self._docker("inspect", "--format", template, self._container)


class PrivateNode:
    """A node of the installed server, with its own epmd, that no other node here knows of."""

    name = "the installed rabbitmq-server"

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._programs = _installed_programs()
        self._directory = Path(facts["directory"])
        self.url = f"amqp://{ADMIN}:{ADMIN}@127.0.0.1:{facts['amqp']}/"
        self.management_url: str | None = f"http://{ADMIN}:{ADMIN}@127.0.0.1:{facts['http']}"
        self._environment = self._make_environment()

    @classmethod
    def make(cls) -> "PrivateNode":
        """Start one."""
        ports = {name: str(free_port()) for name in ("amqp", "http", "epmd", "dist")}
        made = cls({"directory": tempfile.mkdtemp(prefix="docker-job-rabbitmq-"), **ports})
        try:
            made.start()
        except BaseException:
            made.remove()
            raise
        return made

    def _make_environment(self) -> dict[str, str]:
        here, epmd = self._directory, self.facts["epmd"]
        (here / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.facts['amqp']}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.facts['http']}\n"
        )
        (here / "plugins").write_text("[rabbitmq_management].")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(here),
            "ERL_EPMD_PORT": epmd,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # may be stopped while it remembers a node
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": self.facts["dist"],
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_NODENAME": f"dockerjob{epmd}@localhost",
        }

    def ctl(self, *arguments: str) -> str:
        return run_command(
            [str(self._programs / "rabbitmqctl"), "-q", *arguments], self._environment
        )

    def start(self) -> None:
        with (self._directory / "output").open("ab") as output:
            server = subprocess.Popen(
                [str(self._programs / "rabbitmq-server")],
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        this_run().hold(server)  # it may outlive this worker
        ports = (int(self.facts["amqp"]), int(self.facts["http"]))
        _until_listening(*ports, lambda: server.poll() is None)

    def stop(self) -> None:
        self.ctl("stop_app")
        self.kill()

    def kill(self) -> None:
        found = self._processes()
        for each in found:
            with contextlib.suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(found, timeout=GONE_SECONDS)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for each in self._processes():
            each.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        """Return the node's processes, by their home: also epmd, which a killed node leaves."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.environ().get("HOME") == str(self._directory):
                    found.append(each)
        return found

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class GivenServer:
    """A broker that is not started by the tests."""

    name = "the broker of DOCKER_JOB_TEST_BUS_URL"

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.url = facts["url"]
        self.management_url = os.environ.get("DOCKER_JOB_TEST_BUS_MANAGEMENT_URL")

    @classmethod
    def make(cls) -> "GivenServer":
        """Use the given broker."""
        return cls({"url": os.environ[GIVEN]})

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


def _until_listening(amqp: int, management: int, runs: Callable[[], bool]) -> None:
    """Ask both ports until they answer as RabbitMQ does, which a proxy before it cannot."""
    deadline = time.monotonic() + START_SECONDS
    while not (_speaks_amqp(amqp) and _speaks_http(management)):
        if time.monotonic() > deadline or not runs():
            raise RuntimeError(f"no RabbitMQ on port {amqp}")
        time.sleep(0.1)  # between two questions: each costs what is being started some time


def _speaks_amqp(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=2) as connection,
    ):
        connection.sendall(GREETING)
        return bool(connection.recv(1))
    return False


def _speaks_http(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
        return True
    return False


def _installed_programs() -> Path:
    """Find the server's own scripts: Debian's wrappers in /usr/sbin change the user."""
    return next(INSTALLED.glob("rabbitmq_server-*/sbin"))
