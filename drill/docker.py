"""Commands of Docker, each with a time limit and in a session of its own.

A Ctrl-C reaches the drill alone: a command that repairs or removes something is not cut off.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

COMMAND_SECONDS = 120.0
TAIL_CHARACTERS = 3000


class CommandFailed(Exception):
    """A command failed or took too long. The message has the end of its output."""


def docker(
    *arguments: str,
    seconds: float = COMMAND_SECONDS,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stderr: bool = False,
) -> str:
    """Run `docker …`; return its output, with *stderr* its errors too. Raises `CommandFailed`."""
    command = ["docker", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)} took longer than {seconds:g} s") from None
    except OSError as error:
        raise CommandFailed(f"{command[0]} cannot be run: {error}") from None
    if done.returncode != 0:
        text = (done.stdout + done.stderr)[-TAIL_CHARACTERS:].strip()
        raise CommandFailed(f"{' '.join(command)}: exit status {done.returncode}\n{text}")
    return done.stdout + done.stderr if stderr else done.stdout


def lines_of(*arguments: str) -> list[str]:
    """Run `docker …`; return the lines of its output that are not empty."""
    return [line for line in docker(*arguments).splitlines() if line.strip()]
