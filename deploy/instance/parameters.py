"""The secrets of a deployment in SSM's Parameter Store, and the files that are written of them.

The parameters are /docker-job/<stack>/<name>, SecureStrings of the standard tier. KMS encrypts them
with the key `aws/ssm`; neither costs anything, where a secret in Secrets Manager costs 0.40 USD a
month (https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html,
https://aws.amazon.com/systems-manager/pricing/, https://aws.amazon.com/secrets-manager/pricing/).
The instance's role alone may read them (template.yaml).
"""

import os
import re
import secrets
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

SECRETS = ("postgres_password", "rabbitmq_password", "secrets_key", "token_key")
"""Parameters under /docker-job/<stack>/, named as compose.yaml's secrets are."""

SEALING_KEY = re.compile(r"[0-9a-fA-F]{64}")


class NotKeptError(Exception):
    """A parameter does not have the value that was written to it."""


def write_secrets(ssm: Any, stack: str, directory: Path) -> None:
    """Write every secret's file, unless it is up to date; make the secrets that are missing."""
    for name in SECRETS:
        path, value = directory / name, secret(ssm, f"/docker-job/{stack}/{name}")
        if not path.exists() or path.read_text() != value:
            write_private(path, value)


def write_private(path: Path, value: str, *, owner: int | None = None) -> None:
    """Write a file for its *owner* alone, this user by default: beside its place, then moved."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)  # a leftover may have another mode
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
        if owner is not None:
            os.fchmod(descriptor, 0o400)
            os.fchown(descriptor, owner, owner)
    aside.rename(path)


def sealing_keys(stack: str) -> str:
    """Return the name of the parameter with the keys that `secret_env` is sealed with.

    Each is 64 hexadecimal digits, the current one first.
    """
    return f"/docker-job/{stack}/secrets_key"


def keep_sealing_keys(ssm: Any, stack: str, file: Path) -> None:
    """Add the keys in *file* that the parameter lacks behind those that it has.

    Releases before kept the keys on the data volume. They are read back before this returns, so
    that the caller may remove *file*. Raises `NotKeptError`.
    """
    found = re.split(r"[\s,]+", file.read_text().strip()) if file.exists() else []
    name = sealing_keys(stack)
    known = parameter(ssm, name).split()
    if missing := [key for key in found if SEALING_KEY.fullmatch(key) and key not in known]:
        put_keys(ssm, name, [*known, *missing])
        if parameter(ssm, name).split() != [*known, *missing]:
            raise NotKeptError(f"{name}: the parameter does not have the keys of {file} yet")


def new_sealing_key(ssm: Any, stack: str) -> None:
    """Put a new key in front of the others, which stay: what they have sealed stays readable."""
    name = sealing_keys(stack)
    put_keys(ssm, name, [secrets.token_hex(32), *parameter(ssm, name).split()])


def put_keys(ssm: Any, name: str, keys: list[str]) -> None:
    """Write *keys* to the parameter."""
    ssm.put_parameter(Name=name, Type="SecureString", Value=" ".join(keys), Overwrite=True)


def parameter(ssm: Any, name: str) -> str:
    """Return the value of a parameter, "" if there is none."""
    try:
        return str(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        return ""


def secret(ssm: Any, name: str) -> str:
    """Return the secret of that name, or make it. Of two made at once the first one is kept."""
    made = secrets.token_hex(32)
    try:
        ssm.put_parameter(Name=name, Type="SecureString", Value=made, Overwrite=False)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterAlreadyExists":
            raise
        return str(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    return made
