"""The secrets of a set-up on one machine: made once, kept in a file for its owner alone."""

import secrets
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

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
    path = data_dir / FILE
    if path.exists():
        kept = msgspec.json.decode(path.read_bytes(), type=LocalSecrets)
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
