"""The embedded system on IPv6 alone."""

import socket

import httpx
import pytest

from tests.support.systems.embedded_system import EmbeddedSystem


def test_a_job_runs_where_the_api_listens_on_ipv6_loopback_alone(system: EmbeddedSystem) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    system.http.close()
    system.http = httpx.Client(base_url=f"http://[::1]:{system.port}", timeout=30)
    block = system.start(DOCKER_JOB_HOST="::1")
    assert f"curl 'http://[::1]:{system.port}/list'" in block
    assert system.follow(system.schedule())["status"] == "DONE"
