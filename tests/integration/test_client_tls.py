"""The command and the library with an API whose certificate is of an authority of its own."""

import json
from pathlib import Path

import pytest

from docker_job import Client
from docker_job.config import config_path, load
from docker_job.errors import Unreachable
from docker_job.target import find_target
from tests.integration.test_client_commands import KEY, Command, about, command
from tests.support.servers.scripted_api import scripted_api
from tests.support.servers.tls_files import TlsFiles

__all__ = ["command"]  # a fixture


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path / "tls")


def test_login_with_the_authority_keeps_it_and_later_commands_verify(
    command: Command, files: TlsFiles
) -> None:
    ca = str(files.ca_file)
    with scripted_api(about(), about(), about(), tls=files.server) as api:
        refused = command("login", api.url, "--key-stdin", stdin=KEY)
        assert refused.code == 125
        assert "unable to get local issuer certificate" in refused.err
        assert "--cacert" in refused.err
        assert api.seen == [], "the key was not sent"
        ran = command("login", "--cacert", ca, api.url, "--key-stdin", stdin=KEY)
        assert ran.code == 0, ran.err
        [context] = load(config_path()).contexts.values()
        assert context.cacert == ca
        assert command("version").code == 0
        assert find_target().cacert == ca


def test_the_authority_is_an_option_or_a_variable_of_any_command(
    command: Command, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = str(files.ca_file)
    with scripted_api(about(), about(), tls=files.server) as api:
        first = command("--url", api.url, "--cacert", ca, "version", "--json")
        monkeypatch.setenv("DOCKER_JOB_CACERT", ca)
        second = command("--url", api.url, "version", "--json")
        for ran in (first, second):
            assert ran.code == 0, ran.err
            assert json.loads(ran.out)
    assert len(api.seen) == 2


def test_another_authority_or_name_is_refused_before_anything_is_sent(
    files: TlsFiles, tmp_path: Path
) -> None:
    others = TlsFiles(tmp_path / "others")
    named = TlsFiles(tmp_path / "named", "jobs.example.com")
    refused = 0
    for served, trusted, reason in (
        (files, others, "unable to get local issuer certificate"),
        (named, named, "IP address mismatch"),
    ):
        with (
            scripted_api(about(), tls=served.server) as api,
            Client(api.url, KEY, cacert=str(trusted.ca_file), retries=0) as client,
        ):
            with pytest.raises(Unreachable, match=reason):
                client.about()
            assert api.seen == []
            refused += 1
    print(f"{refused} of 2 servers refused, 0 keys sent")


def test_a_file_that_holds_no_authority_is_refused_with_its_name(
    command: Command, tmp_path: Path
) -> None:
    for content, reason in ((None, "No such file or directory"), ("x", "no certificate in PEM")):
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        ran = command("--cacert", str(path), "ps")
        assert ran.code == 125
        assert f"Cannot use {path}: {reason}." in ran.err
