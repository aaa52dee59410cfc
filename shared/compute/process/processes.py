"""Starting, waiting for and killing the processes of local instances.

An agent is a child only of the process that started it. A child that ends stays in the process
table until its parent has waited for it, so a process that starts agents waits for each: woken by a
`pidfd` where the kernel has them, at the next call where it has not. No SIGCHLD handler: the
process may have its own.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

PROC = Path("/proc")
KILLED_SECONDS = 0.5
KILLED_STEP_SECONDS = 0.005
HOME_VARIABLE = b"DOCKER_JOB_INSTANCE_DIR="


class Children:
    """The agent processes that this process has started and not yet waited for."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._watched: dict[int, tuple[asyncio.AbstractEventLoop, int]] = {}

    def spawn(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: int,
        keep: int,
        loop: asyncio.AbstractEventLoop,
    ) -> int:
        """Start *command* in a session of its own and return its id. Called in a thread of *loop*.

        It inherits the descriptor *keep* and no other; its output goes to the descriptor *log*.
        Raises OSError when it cannot be started: then there is no process.
        """
        child = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            pass_fds=(keep,),
            start_new_session=True,
        )
        self._children[child.pid] = child
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed: close() has been or will be called
            loop.call_soon_threadsafe(self._watch, loop, child.pid)
        return child.pid

    def wait_for_ended(self) -> None:
        """Take every ended child out of the process table."""
        for pid in tuple(self._children):
            self._wait_for(pid)

    def close(self) -> None:
        """Stop waiting. The processes go on, and become init's children when we end."""
        self.wait_for_ended()
        for pid in tuple(self._watched):
            self._unwatch(pid)
        for child in self._children.values():
            child.returncode = 0  # so that Popen does not warn of a child that is still running
        self._children.clear()

    def _watch(self, loop: asyncio.AbstractEventLoop, pid: int) -> None:
        if pid not in self._children or not hasattr(os, "pidfd_open"):
            return
        with contextlib.suppress(
            OSError
        ):  # no descriptor left, or an old kernel: the next call waits
            descriptor = os.pidfd_open(pid)
            self._watched[pid] = (loop, descriptor)
            loop.add_reader(descriptor, self._on_end, pid)

    def _on_end(self, pid: int) -> None:
        self._wait_for(pid)
        self._unwatch(pid)

    def _wait_for(self, pid: int) -> None:
        child = self._children.get(pid)
        if child is not None and child.poll() is not None:
            self._children.pop(pid, None)

    def _unwatch(self, pid: int) -> None:
        watched = self._watched.pop(pid, None)
        if watched is not None:
            loop, descriptor = watched
            if not loop.is_closed():
                loop.remove_reader(descriptor)
            os.close(descriptor)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group *pid*; one that does not exist any more is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_left_behind(homes: Collection[Path]) -> set[Path]:
    """SIGKILL the processes of *homes*; return the homes that still have one after 0.5 s.

    What an agent started (`docker` clients, a simulated container, the guard) may outlive it
    shortly, in sessions of their own. Process ids are reused, so a process is known by its working
    directory, which it inherits, or by its environment; a user's shell in that directory is
    known by its terminal, and not killed. Where there is no /proc, nothing is found.
    """
    deadline = time.monotonic() + KILLED_SECONDS
    while homes:
        left = _processes_of(homes)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not left or time.monotonic() > deadline:
            return set(left.values())
        time.sleep(KILLED_STEP_SECONDS)
    return set()


def _processes_of(homes: Collection[Path]) -> dict[int, Path]:
    by_name = {str(home): home for home in homes}
    found: dict[int, Path] = {}
    try:
        names = [entry.name for entry in PROC.iterdir() if entry.name.isdecimal()]
    except OSError:
        return found
    for name in names:
        with contextlib.suppress(OSError, IndexError):  # it has ended meanwhile, or is not ours
            home = by_name.get(_home_of(PROC / name))
            if home is not None and _is_alive_without_terminal(PROC / name):
                found[int(name)] = home
    return found


def _home_of(entry: Path) -> str:
    for variable in (entry / "environ").read_bytes().split(b"\0"):
        if variable.startswith(HOME_VARIABLE):
            return os.fsdecode(variable.removeprefix(HOME_VARIABLE))
    return str((entry / "cwd").readlink())


def _is_alive_without_terminal(entry: Path) -> bool:
    # "pid (command) state ppid pgrp session tty …": the command may hold spaces and parentheses.
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    return fields[0] not in "ZX" and fields[4] == "0"
