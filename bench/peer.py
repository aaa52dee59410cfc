"""A peer to compare with: graphile-worker, a queue in Postgres for Node, from npm.

It gets the same work as docker-job, on the same server: jobs known in advance and due at one time,
and the figure is how long after that time each is handed on. Its settings are those of its own page
on performance (peer.mjs): it hands on jobs in batches, and polls for due jobs every two seconds.
The due time may fall anywhere between two polls, so several places count alike.
"""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers import Missing

NAMES = ("graphile-worker",)
PACKAGE = "graphile-worker@0.17.3"
"""The last that runs on the Node of today's distributions: 0.18 asks for Node 22.18."""
PLACES = (0.125, 0.375, 0.625, 0.875)
"""The shares of a poll interval that have passed when the jobs are due."""

PROGRAM = Path(__file__).with_name("peer.mjs")
INSTALL_SECONDS = 180


@dataclass(frozen=True)
class Peer:
    """An installed peer. *directory* holds its packages."""

    name: str
    directory: Path
    versions: dict[str, str]

    async def lateness(self, dsn: str, jobs: int, place: float) -> list[float]:
        """Return the sorted lateness, in seconds, of *jobs* due at one time. Raises RuntimeError.

        *place* is one of `PLACES`.
        """
        process = await asyncio.create_subprocess_exec(
            *("node", self.directory / PROGRAM.name, str(jobs), str(place)),
            cwd=self.directory,
            env={**os.environ, "DATABASE_URL": dsn, "NO_LOG_SUCCESS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{self.name} ended: {errors.decode()[-2000:]}")
        return sorted(float(each) / 1000 for each in json.loads(out))


@asynccontextmanager
async def installed(name: str) -> AsyncIterator[Peer]:
    """Install the peer *name* for the length of the block. Raises `Missing`."""
    node = await _ask("node", "--version")
    await _ask("npm", "--version")
    with tempfile.TemporaryDirectory(prefix="docker-job-peer-") as directory:
        here = Path(directory)
        (here / "package.json").write_text("{}", encoding="utf-8")
        (here / PROGRAM.name).write_bytes(PROGRAM.read_bytes())
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error")
        await _ask("npm", "install", *quiet, PACKAGE, cwd=here)
        yield Peer(name, here, {"Node": node, "graphile-worker": PACKAGE.rpartition("@")[2]})


async def _ask(*command: str, cwd: Path | None = None) -> str:
    """Return the output of *command*. Raises `Missing`."""
    why = f"--peer needs Node and npm, and its package from npm: {' '.join(command)}"
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, errors = await asyncio.wait_for(process.communicate(), INSTALL_SECONDS)
    except (OSError, TimeoutError) as error:
        raise Missing(f"{why}: {str(error) or 'no answer'}") from error
    if process.returncode:
        raise Missing(f"{why}: {errors.decode().strip()}")
    return out.decode().strip()
