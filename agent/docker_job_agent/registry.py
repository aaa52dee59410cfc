"""Credentials for a registry: the job's, or the machine's as docker's own client takes them.

https://github.com/docker/cli/tree/master/cli/config/credentials and `configfile/file.go` there
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from .environment import environment_for_children, value_of
from .job import Login
from .job_secrets import registry_of
from .log import log

HUB = "https://index.docker.io/v1/"  # Docker Hub's name in configurations
HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HELPER_SECONDS = 15.0
NOT_FOUND = "credentials not found in native keychain"  # docker-credential-helpers, error.go
TOKEN_USER = "<token>"  # noqa: S105 - of a helper that gives an identity token

Auth = dict[str, str]
"""The JSON of X-Registry-Auth."""


def auth_headers(image: str, login: Login | None, environment: Mapping[str, str]) -> Auth:
    """Return the headers of a pull: with the login, or the machine's; none for a public image."""
    server = registry_of(image) or HUB
    if login is None:
        auth = machine_auth(server, environment)
    else:
        auth = {"username": login.username, "password": login.password}
    if not auth:
        return {}
    given = json.dumps({**auth, "serveraddress": server}).encode()
    return {"X-Registry-Auth": base64.urlsafe_b64encode(given).decode("ascii")}


def machine_auth(server: str, environment: Mapping[str, str]) -> Auth:
    """Return the machine's credentials for a registry, empty if it has none.

    A configuration that cannot be read is no reason to fail: most images are public.
    """
    try:
        given = json.loads(value_of(environment, "DOCKER_AUTH_CONFIG", "{}"))
        auth = _of_server(given.get("auths") or {}, server)
        return auth or _of_file(_read_file(environment), server, environment)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log("the machine's registry logins cannot be read", error=type(error).__name__)
        return {}


def _read_file(environment: Mapping[str, str]) -> dict[str, Any]:
    home = value_of(environment, "DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(os.path.join(home, "config.json"), encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return {}


def _of_file(config: dict[str, Any], server: str, environment: Mapping[str, str]) -> Auth:
    helper = (config.get("credHelpers") or {}).get(server) or config.get("credsStore")
    auth = _of_helper(str(helper), server, environment) if helper else None
    return _of_server(config.get("auths") or {}, server) if auth is None else auth


def _of_server(auths: Mapping[str, Any], server: str) -> Auth:
    """Return an entry's credentials; its key may be a URL, as old versions wrote them."""
    for key in (server, *(each for each in auths if _host(each) == server)):
        if key in auths:
            return _of_entry(auths[key])
    return {}


def _host(key: str) -> str:
    return (key.partition("://")[2] or key).partition("/")[0]


def _of_entry(entry: Mapping[str, Any]) -> Auth:
    found = {name: entry.get(name) for name in ("username", "password")}
    if entry.get("auth"):
        pair = base64.b64decode(entry["auth"], validate=True).decode()
        found["username"], _, password = pair.partition(":")
        found["password"] = password.strip("\0")
    found |= {name: entry.get(name) for name in ("identitytoken", "registrytoken")}
    return {name: str(value) for name, value in found.items() if value}


def _of_helper(name: str, server: str, environment: Mapping[str, str]) -> Auth | None:
    """Ask a credential helper; return None if it fails, and empty if it has none."""
    if not HELPER.fullmatch(name):
        log("no credential helper has this name", helper=name)
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_SECONDS,
            env=environment_for_children(environment),
            check=False,
        )
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode == 0:
            given = json.loads(said)
            user, secret = str(given["Username"]), str(given["Secret"])
            is_token = user == TOKEN_USER
            return {"identitytoken": secret} if is_token else {"username": user, "password": secret}
        trouble = f"exit code {done.returncode}"
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        said, trouble = "", type(error).__name__
    if NOT_FOUND in said:
        return {}
    log("the credential helper failed", helper=name, trouble=trouble)
    return None
