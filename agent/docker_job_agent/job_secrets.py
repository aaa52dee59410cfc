"""The job's secrets and its registry's login."""

from __future__ import annotations

import base64
import json
from typing import Any

from .aws import Aws
from .errors import AwsError, CouldNotRunError, PullFailedError
from .job import Job, Login
from .partitions import EcrRegistry, ecr_registry

HUB_HOSTS = ("docker.io", "index.docker.io")


def read_login(text: str) -> Login:
    """Return the login in a secret: `{"username": …, "password": …}` or `user:password`.

    Raises CouldNotRunError, which does not quote the secret.
    """
    try:
        body: Any = json.loads(text)
        return Login(str(body["username"]), str(body["password"]))
    except (ValueError, KeyError, TypeError):
        username, colon, password = text.rstrip("\r\n").partition(":")  # as of a file
    if not (username and colon and password) or "{" in username:
        raise CouldNotRunError(
            'the secret of registry_auth must be {"username": …, "password": …} or user:password'
        )
    return Login(username, password)


def registry_of(image: str) -> str | None:
    """Return the registry's host in an image reference, None for Docker Hub.

    https://github.com/distribution/reference/blob/main/normalize.go (splitDockerDomain)
    """
    first, slash, _ = image.partition("/")
    named = "." in first or ":" in first or first == "localhost" or first != first.lower()
    return first if slash and named and first not in HUB_HOSTS else None


def with_secrets(job: Job, aws: Aws | None) -> Job:
    """Return the job with its secrets and its registry's login; raises CouldNotRunError.

    The login of ECR is fetched by the pull, which has the time to try again.
    """
    env = dict(job.env)
    for name, place in (job.secrets or {}).items():
        env[name] = fetch_secret(name, place, aws)
    if job.registry_auth not in (None, "ecr"):
        if job.registry_auth not in env:
            raise CouldNotRunError(f"registry_auth names {job.registry_auth}, which is no secret")
        return job._replace(env=env, login=read_login(env.pop(job.registry_auth)))
    registry = ecr_registry(registry_of(job.image) or "")
    if job.registry_auth == "ecr" and (registry is None or aws is None):
        reason = "names no ECR registry" if registry is None else "needs an instance with a role"
        raise CouldNotRunError(f"registry_auth is ecr, but {job.image} {reason}")
    if registry is None or aws is None:
        return job._replace(env=env)
    return job._replace(env=env, fetch_login=lambda: ecr_login(registry, aws))


def fetch_secret(name: str, place: str, aws: Aws | None) -> str:
    """Return an SSM parameter's or Secrets Manager secret's value; raises CouldNotRunError."""
    if aws is None:
        raise CouldNotRunError(f"secret {name} needs an instance with a role, and this has none")
    region = place.split(":")[3] if place.startswith("arn:") else None
    try:
        if ":secretsmanager:" in place:
            given = aws.call("secretsmanager", "GetSecretValue", region, {"SecretId": place})
            value = given["SecretString"]
        else:
            wanted = {"Name": place, "WithDecryption": True}
            value = aws.call("ssm", "GetParameter", region, wanted)["Parameter"]["Value"]
    except AwsError as error:
        raise CouldNotRunError(f"secret {name} ({place}) could not be read: {error}") from None
    except (KeyError, TypeError):
        raise CouldNotRunError(f"secret {name} ({place}) holds no text") from None
    return str(value)


def ecr_login(registry: EcrRegistry, aws: Aws) -> Login:
    """Return ECR's login for the role, valid for twelve hours; raises PullFailedError."""
    try:
        region, endpoint = registry
        given = aws.call("ecr", "GetAuthorizationToken", region, {}, endpoint)
        token = base64.b64decode(given["authorizationData"][0]["authorizationToken"]).decode()
    except AwsError as error:
        raise PullFailedError(f"no login at ECR: {error}", permanent=error.permanent) from None
    except (KeyError, TypeError, IndexError, ValueError):
        raise PullFailedError("no login at ECR: it gave no token", permanent=False) from None
    username, _, password = token.partition(":")
    return Login(username, password)
