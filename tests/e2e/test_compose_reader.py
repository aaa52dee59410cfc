"""The consumer of docs/how-to/follow-events.md, on compose's network `readers`.

It gets to the broker and to the outside, which is a server of the test's own machine here, and to
nothing else of ours.
"""

import http.server
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.systems.compose_project import (
    BuiltClone,
    ComposeProject,
    compose_project,
    docker,
)
from tests.support.systems.embedded_system import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)  # the images are built by the first test that wants them

READER = """\
services:
  reader:
    image: ${DOCKER_JOB_IMAGE}
    pull_policy: never
    entrypoint: [python, /examples/follow_jobs.py]
    environment: { AMQP_URL: "amqp://reader:secret@rabbitmq:5672/" }
    volumes: ["./examples:/examples:ro"]
    networks: [readers]
    extra_hosts: ["the-outside:host-gateway"]
"""
FETCH = "import urllib.request as u; print(u.urlopen('http://the-outside:{}', timeout=5).status)"
LOOK_UP = "import socket; socket.getaddrinfo('{}', None)"
RECEIVED_SECONDS = 30


@pytest.fixture(scope="module")
def project(
    clone: BuiltClone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposeProject]:
    """Start the API and its dependencies, with a reader that was admitted as the page describes."""
    file = tmp_path_factory.mktemp("reader") / "reader.yaml"
    file.write_text(READER)
    with compose_project(clone, file) as project:
        project.up("api")
        page = (ROOT / "docs" / "how-to" / "follow-events.md").read_text()
        commands = re.findall(r"^docker compose exec (rabbitmq .*)$", page, re.MULTILINE)
        *let_in, clean_up = commands
        assert len(let_in) == 2
        for command in let_in:
            project.compose("exec", "-T", *(part.strip("'") for part in command.split()))
        project.compose("up", "--detach", "--no-deps", "reader")
        queues = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_queues", "name", "consumers")
        until_received(project, lambda: "follow-jobs\t1" in project.compose(*queues).stdout)
        yield project
        project.compose("stop", "--timeout", "1", "reader")
        project.compose("exec", "-T", *clean_up.split())


def until_received(project: ComposeProject, holds: Callable[[], object]) -> None:
    """Wait until that holds. Raises AssertionError with the reader's log."""
    try:
        until(holds, RECEIVED_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{project.logs('reader')[-4000:]}") from None


class Outside(http.server.BaseHTTPRequestHandler):
    """Answers every request from a container with a way out."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def port_outside() -> Iterator[int]:
    """Return the port of a server that only a container with a way out reaches."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Outside) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def in_the_reader(project: ComposeProject, program: str, *, fails: bool = False) -> str:
    """Return the output of *program* there."""
    command = ("exec", "-T", "reader", "python", "-c", program)
    return project.compose(*command, fails=fails).stdout.strip()


def test_a_reader_receives_a_jobs_end(project: ComposeProject) -> None:
    job_id = project.schedule("+1h", name="nightly")
    project.http.delete(f"/jobs/{job_id}").raise_for_status()
    line = f"job {job_id} (nightly) is CANCELLED"
    until_received(project, lambda: line in project.logs("reader"))


def test_a_reader_gets_to_the_outside_and_what_is_inside_does_not(
    project: ComposeProject, port_outside: int
) -> None:
    """Read the network's flag, since an engine may let internal networks reach its own machine."""
    assert in_the_reader(project, FETCH.format(port_outside)) == "204"
    internal = ("network", "inspect", "--format", "{{.Internal}}")
    assert docker(*internal, f"{project.name}_readers") == "false"
    assert docker(*internal, f"{project.name}_inside") == "true"


def test_a_reader_finds_the_broker_and_nothing_else_of_ours(project: ComposeProject) -> None:
    in_the_reader(project, LOOK_UP.format("rabbitmq"))
    for service in ("postgres", "api"):
        in_the_reader(project, LOOK_UP.format(service), fails=True)
