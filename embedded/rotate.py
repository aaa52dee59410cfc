"""New secrets where all services are one process: `python -m embedded.rotate`, while it is stopped.

The services' passwords for Postgres and the key of the bootstrap tokens are replaced; the next
start sets them in Postgres. With `--secrets-key` a new key is put in front of those that
`secret_env` is sealed with: values sealed with the old ones stay readable. The deployment's name is
no secret and stays, or its running instances would be orphaned. Under compose: `deploy/rotate.sh`.
"""

import argparse
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from embedded.data_dir import DataDirError, close_new_files, lock_data_dir, refuse_without
from embedded.secrets import FILE, local_secrets
from shared.files import write_whole
from shared.settings import BadSetting, Settings
from shared.terminal import print_line


def rotated(kept: dict[str, Any], *, secrets_key: bool) -> dict[str, Any]:
    """Return *kept* with new secrets."""
    made = {
        **kept,
        "token_key": secrets.token_hex(32),
        "passwords": {role: secrets.token_hex(24) for role in kept["passwords"]},
    }
    if secrets_key:
        made["secrets_key"] = f"{secrets.token_hex(32)} {kept.get('secrets_key', '')}".strip()
    return made


def rotate(path: Path, *, secrets_key: bool) -> None:
    """Replace the secrets in *path* by new ones, all or none."""
    made = rotated(json.loads(path.read_bytes()), secrets_key=secrets_key)
    write_whole(path, json.dumps(made).encode())


def main() -> int:
    """Run the command line; return the exit status."""
    top = argparse.ArgumentParser(prog="python -m embedded.rotate", description="New secrets.")
    top.add_argument("--secrets-key", action="store_true", help="of secret_env too")
    options = top.parse_args()
    close_new_files()
    try:
        data_dir = Path(Settings(os.environ).text("DATA_DIR", ".data")).absolute()
        refuse_without(data_dir, data_dir / FILE, FILE)
        with lock_data_dir(data_dir):
            local_secrets(data_dir, ())  # refuses a damaged file
            rotate(data_dir / FILE, secrets_key=options.secrets_key)
    except (BadSetting, DataDirError, OSError) as error:
        print_line(f"docker-job rotate: {error}", error=True)
        return 1
    print_line("rotated: the next start uses the new secrets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
