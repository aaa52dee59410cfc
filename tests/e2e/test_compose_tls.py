"""TLS under compose, as docs/operations.md has it: switched on in a deployment that is running."""

import tempfile
from pathlib import Path

import httpx
import pytest

from tests.support.servers.tls_files import TlsFiles
from tests.support.systems.compose_project import BuiltClone, ComposeProject, compose_project

pytestmark = pytest.mark.timeout(900)  # the images are built by the first test that wants them

IMAGE = "python:3.13-slim"  # which the build needs
KEYS = ("run", "--rm", "api", "keys")


def settings(files: TlsFiles) -> dict[str, str]:
    """Return the settings that .env.example explains."""
    return {
        "DOCKER_JOB_TLS_CERTIFICATE_FILE": str(files.chain),
        "DOCKER_JOB_TLS_KEY_FILE": str(files.key),
        "DOCKER_JOB_API_CA_FILE": str(files.ca_file),
        "DOCKER_JOB_API_URL": "https://api:8000",
    }


def run_a_job(client: httpx.Client) -> str:
    """Run a job and return its status after the end of its logs."""
    job = {"docker_image": IMAGE, "command": ["echo", "hello"], "scheduled_for": "now"}
    number = client.post("/schedule", json=job).raise_for_status().json()["id"]
    with client.stream("GET", f"/jobs/{number}/logs?follow=1", timeout=120) as lines:
        assert "event: end" in list(lines.iter_lines())
    return str(client.get(f"/status/{number}").json()["status"])


def answers(client: httpx.Client) -> bool:
    """Return whether a server of this protocol answers with a job list, or asks for a key."""
    try:
        return client.get("/list").status_code in (200, 401)
    except httpx.TransportError:
        return False


def tls_client(project: ComposeProject, files: TlsFiles, key: str) -> httpx.Client:
    """Make a client that trusts the authority of *files* alone."""
    url = str(project.http.base_url).replace("http://", "https://")
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, verify=files.client, timeout=30)


def test_files_in_the_settings_switch_a_running_deployment_to_tls_alone(clone: BuiltClone) -> None:
    directory = Path(tempfile.mkdtemp(prefix="docker-job-test-tls-", dir=clone.directory.parent))
    ours = TlsFiles(directory / "ours", "api", "127.0.0.1")
    others = TlsFiles(directory / "others", "api", "127.0.0.1")
    with compose_project(clone) as project:
        project.up()
        made = project.compose(*KEYS, "create", "--name", "me", "--scope", "admin")
        key = made.stdout.split()[-1]
        assert answers(project.http)

        project.configure(**settings(ours))
        project.up()
        assert not answers(project.http), "the port serves TLS alone"
        with tls_client(project, ours, key) as client:
            assert run_a_job(client) == "DONE"
        with tls_client(project, others, key) as stranger:
            assert not answers(stranger)

        project.configure(**settings(others))
        project.up()
        with tls_client(project, others, key) as client:
            assert run_a_job(client) == "DONE"
        with tls_client(project, ours, key) as former:
            assert not answers(former)
        print("2 of 2 changes of the files took effect at the next `docker compose up -d`")
