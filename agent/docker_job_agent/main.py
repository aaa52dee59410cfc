"""The roles of the built file.

Each role imports its own modules: the simulated container and the guard need few of them, and
every start compiles what it imports. A role imports all of its modules before it begins, so that
it does not depend on a file that is replaced meanwhile.
"""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> int:
    """Run the role that the arguments name: without arguments, the agent itself."""
    os.umask(0o077)  # its files may hold what the job's user alone should see
    if arguments == ["--simulate"]:
        from .simulate import simulate  # noqa: PLC0415

        return simulate()
    if arguments[:1] == ["--guard"]:
        from .guard import guard  # noqa: PLC0415

        return guard(*arguments[1:])
    if arguments:
        print("usage: docker_job_agent.pyz (all it needs is in the environment)", file=sys.stderr)
        return 64
    from .run import run_agent  # noqa: PLC0415

    return run_agent()
