"""Removes the leftovers of a test run, however it ended: by itself, Ctrl-C, a crash, `kill -9`.

    python -m tests.support.run.keeper DIRECTORY

Started by the first worker that starts a server for all of them. It waits for the lock that the
main process of pytest holds as long as it lives.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from shared.postgres.pool import connect
from tests.support.run.state import ALIVE, Run

LEAVE_SECONDS = 5


def main() -> None:
    """Wait for the run's end, then leave nothing of it."""
    directory = Path(sys.argv[1])
    with (directory / ALIVE).open() as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)
    for path, (kind, name) in Run(directory).leftovers():
        with contextlib.suppress(Exception):
            KINDS[kind](name)
        path.unlink(missing_ok=True)
    end_processes(directory)
    shutil.rmtree(directory, ignore_errors=True)


def end_processes(directory: Path) -> None:
    """End every process that has *directory* in its command line or its environment."""
    found = [each for each in psutil.process_iter() if _is_of(each, str(directory))]
    for each in found:
        with contextlib.suppress(psutil.Error):
            each.terminate()
            each.resume()  # a stopped one would not receive it
    for each in still_running(found):
        with contextlib.suppress(psutil.Error):
            each.kill()
    still_running(found)


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait a while for *processes* to end, and return those that have not.

    One that has ended is a zombie for as long as its parent lives, which may wait for this keeper.
    """
    deadline = time.monotonic() + LEAVE_SECONDS
    while time.monotonic() < deadline and any(_runs(each) for each in processes):
        time.sleep(0.02)
    return [each for each in processes if _runs(each)]


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_of(process: psutil.Process, text: str) -> bool:
    if process.pid == os.getpid():
        return False
    with contextlib.suppress(psutil.Error):
        if any(text in part for part in process.cmdline()):
            return True
        return any(text in value for value in process.environ().values())
    return False


def remove_project(name: str) -> None:
    """Remove what compose has made under this name, and the instances that it has launched."""
    for label in (f"com.docker.compose.project={name}", f"docker-job.deployment={name}"):
        mark = f"label={label}"
        _docker("rm", "--force", "--volumes", *_ids("ps", "--all", "--quiet", "--filter", mark))
        _docker("network", "rm", *_ids("network", "ls", "--quiet", "--filter", mark))
        _docker("volume", "rm", *_ids("volume", "ls", "--quiet", "--filter", mark))
        _docker("image", "prune", "--force", "--filter", mark)


def _ids(*listing: str) -> list[str]:
    done = subprocess.run(["docker", *listing], capture_output=True, text=True, check=False)
    return done.stdout.split()


def _docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], capture_output=True, check=False)


def drop_database(dsn: str) -> None:
    """Drop a database on a server that is not ours; the words are the admin's DSN and the name."""
    server, _, name = dsn.rpartition(" ")

    async def drop() -> None:
        conn = await connect(server)
        await conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await conn.close()

    asyncio.run(drop())


KINDS = {
    "container": lambda name: _docker("rm", "--force", "--volumes", name),
    "image": lambda name: _docker("image", "rm", "--force", name),
    "project": remove_project,
    "database": drop_database,
}
"""How to remove each kind of thing that is noted in a run; processes need no note."""

if __name__ == "__main__":
    main()
