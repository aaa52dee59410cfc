"""The deployment's certificate authority, between this instance and SSM, for `start.sh`.

    python3 -m deploy.instance.authority names NAME…            print NAMEs and this instance's own
    python3 -m deploy.instance.authority fetch STACK DIRECTORY  write authority.pem, if there is one
    python3 -m deploy.instance.authority keep STACK DIRECTORY   keep authority.pem and ca.pem

Its key outlives the instance as a SecureString, which only this instance's role and the account's
administrators read, and is on no disk: the directory is in memory. Its certificate is public, and
`deploy.sh` takes it from SSM, which AWS's own certificate proves: it must not come over the very
connection that it is to prove.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from deploy.instance.cloud import WAIT_SECONDS, client, metadata, repeat

KEY_FILE, PUBLIC_FILE = "authority.pem", "ca.pem"


def print_names(*given: str) -> None:
    """Print the names and addresses at which the API is reached, the empty ones left out."""
    print(*filter(None, (*given, metadata("local-ipv4"), "localhost", "127.0.0.1")))


def fetch(stack: str, directory: str) -> None:
    """Write the authority, or remove the one that has been deleted in SSM: it is then replaced."""
    path, kept = Path(directory) / KEY_FILE, _kept(_key_name(stack))
    path.unlink(missing_ok=True)
    if kept is not None:
        path.touch(mode=0o600)
        path.write_text(kept + "\n")


def keep(stack: str, directory: str) -> None:
    """Keep the authority and its certificate, unless they are kept already."""
    for name, file, kind in (
        (_key_name(stack), KEY_FILE, "SecureString"),
        (f"/docker-job/{stack}/ca_certificate", PUBLIC_FILE, "String"),
    ):
        value = (Path(directory) / file).read_text()
        if _kept(name) != value.strip():
            client("ssm").put_parameter(Name=name, Type=kind, Value=value.strip(), Overwrite=True)


def _key_name(stack: str) -> str:
    return f"/docker-job/{stack}/ca_key"


def _kept(name: str) -> str | None:
    try:
        answer = client("ssm").get_parameter(Name=name, WithDecryption=True)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        return None
    return str(answer["Parameter"]["Value"])


COMMANDS: dict[str, Callable[..., None]] = {"names": print_names, "fetch": fetch, "keep": keep}


def main(command: str, *arguments: str) -> int:
    """Run a command, repeated as long as that may help; return the exit status."""
    try:
        repeat(command, lambda: COMMANDS[command](*arguments), WAIT_SECONDS)
    except (BotoCoreError, ClientError, OSError) as error:
        print(f"authority: {command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
