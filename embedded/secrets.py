"""The secrets of a set-up on one machine: made once, kept in a file for its owner alone."""

import os
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

FILE = "secrets.json"


class LocalSecrets(Struct, frozen=True, kw_only=True):
    """What the embedded services share. `deployment` is no secret, but is made at the same time."""

    deployment: str
    token_key: str
    passwords: dict[str, str]
    secrets_key: str = ""


def local_secrets(data_dir: Path, roles: tuple[str, ...]) -> LocalSecrets:
    """Read the secrets in *data_dir*, or make them; each of *roles* gets a password."""
    path = data_dir / FILE
    if path.exists():
        kept = msgspec.json.decode(path.read_bytes(), type=LocalSecrets)
        if kept.secrets_key:
            return kept
        made = replace(kept, secrets_key=secrets.token_hex(32))  # by a version that had none
        _write(path, made)
        return made
    made = LocalSecrets(
        deployment=f"local-{secrets.token_hex(4)}",
        token_key=secrets.token_hex(32),
        passwords={role: secrets.token_hex(24) for role in roles},
        secrets_key=secrets.token_hex(32),
    )
    _write(path, made)
    return made


def _write(path: Path, made: LocalSecrets) -> None:
    # Written aside and renamed: a crash in between leaves none, never half a file.
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(made))
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
