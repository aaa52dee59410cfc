"""A peer beside us: graphile-worker, a queue in Postgres for Node, from npm.

What is due at one moment is asked of it as of us, on the same server: jobs that are known before,
and how long after that moment each is handed on. Its settings are those of its own page on
performance (peer.mjs): they hand the jobs on in batches, and ask for what is due each two seconds.
Nobody chooses where between two of its questions a job is due, so several places count alike.
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
"""How much of the time between two of its questions has passed when the jobs are due."""

PROGRAM = Path(__file__).with_name("peer.mjs")
INSTALL_SECONDS = 180


@dataclass(frozen=True)
class Peer:
    """An installed peer. *directory* holds its packages."""

    name: str
    directory: Path
    versions: dict[str, str]

    async def lateness(self, dsn: str, jobs: int, place: float) -> list[float]:
        """How many seconds late it had each of *jobs* due at one moment. Raises RuntimeError.

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
    """The peer *name*, in a directory that is gone behind the block. Raises `Missing`."""
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
    """What *command* prints. Raises `Missing`."""
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
