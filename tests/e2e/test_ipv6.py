"""The embedded system on each kind of loopback address."""

import socket

import httpx
import pytest

from shared.url import local_url, without_brackets
from tests.support.systems.embedded_system import EmbeddedSystem


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_a_job_runs_where_the_api_listens_on_loopback_alone(
    system: EmbeddedSystem, host: str
) -> None:
    bare = without_brackets(host)
    try:
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        with socket.create_server((bare, 0), family=family):
            pass
    except OSError as error:
        pytest.skip(f"this machine has no such loopback: {error}")
    system.http.close()
    address = local_url(bare, system.port)
    system.http = httpx.Client(base_url=address, timeout=30)
    block = system.start(DOCKER_JOB_HOST=host)
    assert f"{address}/list" in block
    assert system.follow(system.schedule())["status"] == "DONE"
