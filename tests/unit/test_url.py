"""Addresses as settings give them and as clients use them."""

import pytest

from embedded.run import read_setup
from shared.settings import Settings
from shared.url import local_url, without_brackets


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
        ("localhost", "http://localhost:8000"),
        ("jobs.example.com", "http://jobs.example.com:8000"),
        ("::1", "http://[::1]:8000"),
        ("fd00::7", "http://[fd00::7]:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("0:0:0:0:0:0:0:0", "http://[::1]:8000"),
    ],
)
def test_a_server_is_found_where_it_listens_and_on_loopback_if_that_is_everywhere(
    host: str, url: str
) -> None:
    assert local_url(host, 8000) == url


@pytest.mark.parametrize(
    ("setting", "host", "address"),
    [
        ("::1", "::1", "http://[::1]:8123"),
        ("[::1]", "::1", "http://[::1]:8123"),
        ("::", "::", "http://[::1]:8123"),
        ("localhost", "localhost", "http://localhost:8123"),
    ],
)
def test_the_embedded_system_has_an_address_that_its_agents_can_use(
    setting: str, host: str, address: str
) -> None:
    setup = read_setup(Settings({"DOCKER_JOB_HOST": setting, "DOCKER_JOB_PORT": "8123"}))
    assert (setup.host, setup.address) == (host, address)


def test_only_the_brackets_of_an_address_are_taken_away() -> None:
    assert [without_brackets(each) for each in ("[::1]", "::1", "localhost", "")] == [
        "::1",
        "::1",
        "localhost",
        "",
    ]
