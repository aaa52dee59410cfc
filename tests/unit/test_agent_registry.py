"""Credentials for a registry: the job's, or those that docker's own client would take."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from agent.docker_job_agent.job import Login
from agent.docker_job_agent.registry import auth_headers

SERVER = "registry.example.com"
IMAGE = f"{SERVER}/team/app:1"
PAIR = base64.b64encode(b"user:pass:word").decode()
AS_USER = {"username": "user", "password": "pass:word"}
HELPER = """#!/bin/sh
test "$1" = get && read -r server
case "$server" in
  registry.example.com*) echo '{"ServerURL": "s", "Username": "helped", "Secret": "canary"}' ;;
  token.example.com*) echo '{"Username": "<token>", "Secret": "canary"}' ;;
  broken.example.com*) echo 'the keychain is locked' ; exit 1 ;;
  *) echo 'credentials not found in native keychain' ; exit 1 ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory of docker's configuration, and the helper `docker-credential-me`."""
    helper = tmp_path / "docker-credential-me"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def sent(image: str, home: Path, config: object = None, **env: str) -> dict[str, str] | None:
    """Return the credentials that are sent for *image*, None if there are none."""
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (home / "config.json").write_text(text)
    environment = {"PATH": f"{home}:/usr/bin:/bin", "DOCKER_CONFIG": str(home), **env}
    return read(auth_headers(image, None, environment))


def read(headers: dict[str, str]) -> dict[str, str] | None:
    if not headers:
        return None
    auth: dict[str, str] = json.loads(base64.urlsafe_b64decode(headers["X-Registry-Auth"]))
    del auth["serveraddress"]
    return auth


def test_the_jobs_own_login_comes_before_the_machines(home: Path) -> None:
    (home / "config.json").write_text(json.dumps({"auths": {SERVER: {"auth": PAIR}}}))
    headers = auth_headers(IMAGE, Login("robot", "é☃?>"), {"DOCKER_CONFIG": str(home)})
    assert read(headers) == {"username": "robot", "password": "é☃?>"}
    assert headers["X-Registry-Auth"].isascii()


@pytest.mark.parametrize(
    ("image", "config", "auth"),
    [
        (IMAGE, {"auths": {SERVER: {"auth": PAIR}}}, AS_USER),
        (IMAGE, {"auths": {f"https://{SERVER}/v1/": {"auth": PAIR}}}, AS_USER),
        (IMAGE, {"auths": {"other.example.com": {"auth": PAIR}}}, None),
        (
            IMAGE,
            {"auths": {SERVER: {"identitytoken": "t", "auth": PAIR}}},
            AS_USER | {"identitytoken": "t"},
        ),
        (IMAGE, {"auths": {SERVER: {}}}, None),
        ("alpine", {"auths": {"https://index.docker.io/v1/": {"auth": PAIR}}}, AS_USER),
        ("docker.io/a/b", {"auths": {"https://index.docker.io/v1/": {"auth": PAIR}}}, AS_USER),
        ("alpine", {"auths": {SERVER: {"auth": PAIR}}}, None),
        (IMAGE, {"credHelpers": {SERVER: "me"}}, {"username": "helped", "password": "canary"}),
        (IMAGE, {"credsStore": "me"}, {"username": "helped", "password": "canary"}),
        ("token.example.com/a", {"credsStore": "me"}, {"identitytoken": "canary"}),
        ("none.example.com/a", {"credsStore": "me"}, None),
        (
            "broken.example.com/a",
            {"credsStore": "me", "auths": {"broken.example.com": {"auth": PAIR}}},
            AS_USER,
        ),
        (IMAGE, {"credsStore": "missing", "auths": {SERVER: {"auth": PAIR}}}, AS_USER),
        (IMAGE, {"credsStore": "../me"}, None),
    ],
)
def test_the_machines_logins_are_those_of_dockers_client(
    home: Path, image: str, config: dict[str, Any], auth: dict[str, str] | None
) -> None:
    assert sent(image, home, config) == auth


def test_a_login_of_the_environment_comes_before_the_file(home: Path) -> None:
    given = json.dumps({"auths": {SERVER: {"auth": PAIR}}})
    assert sent(IMAGE, home, {"credsStore": "me"}, DOCKER_AUTH_CONFIG=given) == AS_USER


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "7",
        {"auths": []},
        {"auths": {SERVER: "user"}},
        {"auths": {SERVER: {"auth": "no base64"}}},
        {"credHelpers": ["me"]},
    ],
)
def test_a_broken_configuration_is_no_reason_to_fail(home: Path, config: object) -> None:
    assert sent(IMAGE, home, config) is None


def test_without_any_login_nothing_is_sent(home: Path) -> None:
    assert sent(IMAGE, home) is None
