"""The secrets of a set-up on one machine: made once, kept in a file for its owner alone."""

import fcntl
import os
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from embedded.data_dir import DataDirError
from shared.files import write_whole

FILE = "secrets.json"


class LocalSecrets(Struct, frozen=True, kw_only=True):
    """The secrets of the embedded services. `deployment` is none, but is made at the same time."""

    deployment: str
    token_key: str
    passwords: dict[str, str]
    secrets_key: str = ""


def local_secrets(data_dir: Path, roles: tuple[str, ...]) -> LocalSecrets:
    """Read the secrets in *data_dir*, or make them; each of *roles* gets a password."""
    # Two commands at once would make two sets, and the database would have the passwords of one.
    directory = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        return _read_or_make(data_dir / FILE, roles)
    finally:
        os.close(directory)


def _read_or_make(path: Path, roles: tuple[str, ...]) -> LocalSecrets:
    if path.exists():
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=LocalSecrets)
        except (OSError, msgspec.DecodeError) as error:
            raise DataDirError(
                f"{path} cannot be read ({error}): put back a copy of it. Without one, remove it: "
                "new secrets are made, and the secret_env of the present jobs is lost."
            ) from error
        if kept.secrets_key:
            return kept
        made = replace(kept, secrets_key=secrets.token_hex(32))  # by a version that had none
        write_whole(path, msgspec.json.encode(made))
        return made
    made = LocalSecrets(
        deployment=f"local-{secrets.token_hex(4)}",
        token_key=secrets.token_hex(32),
        passwords={role: secrets.token_hex(24) for role in roles},
        secrets_key=secrets.token_hex(32),
    )
    write_whole(path, msgspec.json.encode(made))
    return made
