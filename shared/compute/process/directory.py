"""The state of one local instance: a directory of small files that outlives all our processes.

    launch.json     the request and its time: written before anything is started
    spawn.lock      held exclusively to start the agent, shared to read the stage
    process.lock    held by the agent's process from start to end: it inherits the descriptor
    spawned.json    the process id, written after the start
    alive.lock, pid, ended    the agent's own files (docs/agent-protocol.md)
    terminate.json  time and reason of the termination request: nothing is started after it
    gone.json       time and reason of the end: neither process nor container is left
    agent.log       the agent's output

An agent is alive while `process.lock` is held, not its own `alive.lock`, for two reasons. To check
a lock means to take it for an instant, and an agent that wants `alive.lock` in that instant would
take itself for the second one and exit. And an inherited lock has no gap between the start of a
process and its first action, so a starting agent is never mistaken for a dead one, nor a reused
process id for a live one.

Nothing is flushed to disk: these files must survive the death of our processes, not of the machine
(which ends the agents too). A file that cannot be read counts as not written.
"""

import contextlib
import enum
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.compute.agent_end import Ended
from shared.compute.port import LaunchRequest, Unknown

LOCK_PATIENCE_SECONDS = 5.0
LOCK_STEP_SECONDS = 0.002

T = TypeVar("T")


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A launch. `request` is without its bootstrap token, which is never stored."""

    request: LaunchRequest
    launched_at: datetime
    runtime: str
    hourly_price_usd: float


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """The start of an agent process: its id (also of its group and session), and the time."""

    pid: int
    at: datetime


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Time and reason of a termination request, or of the end."""

    at: datetime
    reason: str


class Stage(enum.Enum):
    """The stage of an instance, as its directory and its lock show it."""

    NEW = "requested, not started"
    BOOTING = "its process runs, the agent has not written its pid yet"
    ALIVE = "its agent runs"
    DEAD = "its process has ended; its containers may be left"
    TERMINATED = "neither process nor container is left"


class InstanceDir:
    """One instance's directory. Every method may block shortly: call it in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.instance_id = path.name

    def make(self) -> None:
        """Create the directory, readable by its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def launched(self) -> Launched | None:
        """Read the launch; None: nothing was launched yet."""
        return self._read("launch.json", Launched)

    def spawned(self) -> Spawned | None:
        """Read the start of its process, if that was recorded."""
        return self._read("spawned.json", Spawned)

    def ended(self) -> Ended | None:
        """Read the agent's report of its end, if it had time for one."""
        return self._read("ended", Ended)

    def ending(self) -> Ending | None:
        """Read the termination request, if there is one."""
        return self._read("terminate.json", Ending)

    def termination(self) -> Ending | None:
        """Read the recorded end, if there is one."""
        return self._read("gone.json", Ending)

    def write_launched(self, launched: Launched) -> None:
        """Make the instance visible."""
        self._write("launch.json", launched)

    def write_spawned(self, spawned: Spawned) -> None:
        """Record the process, after its start."""
        self._write("spawned.json", spawned)

    def write_ending(self, ending: Ending) -> Ending:
        """Record a termination request. The first one stands, and is returned."""
        self._write("terminate.json", ending, replace=False)
        return self.ending() or ending

    def write_termination(self, end: Ending) -> Ending:
        """Record that nothing is left. The first record stands, and is returned."""
        self._write("gone.json", end, replace=False)
        return self.termination() or end

    def pid(self) -> int | None:
        """Read the agent's process id from its file or ours. Signal it only while it is alive."""
        with contextlib.suppress(OSError, ValueError):
            return _sane(int((self.path / "pid").read_text()))
        spawned = self.spawned()
        return None if spawned is None else _sane(spawned.pid)

    def stage(self) -> Stage:
        """Determine the stage. Raises `Unknown` if another process holds the lock for too long."""
        if (self.path / "gone.json").exists():
            return Stage.TERMINATED
        with self.lock(shared=True):
            return self.stage_while_locked()

    def stage_while_locked(self) -> Stage:
        """Determine the stage while holding `spawn.lock`, so that no start is under way."""
        if (self.path / "gone.json").exists():
            return Stage.TERMINATED
        if self._is_process_alive():
            return Stage.ALIVE if (self.path / "pid").exists() else Stage.BOOTING
        traces = ("spawned.json", "pid", "ended", "terminate.json")
        if any((self.path / name).exists() for name in traces):
            return Stage.DEAD
        return Stage.NEW

    @contextlib.contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Hold `spawn.lock`. Raises `Unknown` if it stays held for 5 s (by a stopped replica)."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            descriptor = self._open("spawn.lock")
            try:
                if self._try_lock(descriptor, kind) and self._is_current(descriptor, "spawn.lock"):
                    yield
                    return
            finally:
                os.close(descriptor)
            if time.monotonic() > deadline:
                message = f"{self.instance_id}: another process has held its lock for too long"
                raise Unknown(message)
            time.sleep(LOCK_STEP_SECONDS)

    @contextlib.contextmanager
    def process_lock(self) -> Iterator[int]:
        """Lock `process.lock` and yield its descriptor for a child to inherit. Raises `Unknown`.

        The caller holds `spawn.lock`, as do all who check the process's lock.
        """
        descriptor = self._open("process.lock")
        try:
            if not self._try_lock(descriptor, fcntl.LOCK_EX):
                raise Unknown(f"{self.instance_id}: a process of this instance runs already")
            yield descriptor
        finally:
            os.close(descriptor)

    def open_log(self) -> int:
        """Open `agent.log` for appending; return the descriptor."""
        return self._open("agent.log", os.O_APPEND)

    def read_log(self, most: int) -> str:
        """Return the last *most* bytes of `agent.log`, empty if there is none."""
        try:
            with (self.path / "agent.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - most))
                return log.read(most).decode(errors="replace")
        except OSError:
            return ""

    def remove(self) -> None:
        """Remove the directory. `launch.json` goes first: a half removed one shows nothing."""
        (self.path / "launch.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _is_process_alive(self) -> bool:
        try:
            descriptor = os.open(self.path / "process.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not self._try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int = 0) -> int:
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)

    def _is_current(self, descriptor: int, name: str) -> bool:
        # The directory may have been removed (and recreated) between our open and our lock.
        with contextlib.suppress(FileNotFoundError):
            return os.fstat(descriptor).st_ino == (self.path / name).stat().st_ino
        return False

    @staticmethod
    def _try_lock(descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def _write(self, name: str, value: msgspec.Struct, *, replace: bool = True) -> None:
        draft = self.path / f".{name}.{os.getpid()}.{time.monotonic_ns()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(value))
            if replace:
                draft.replace(self.path / name)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, self.path / name)
        finally:
            draft.unlink(missing_ok=True)


def _sane(pid: int) -> int | None:
    # 0, 1 and negative numbers address whole groups: a damaged file must never kill them.
    return pid if pid > 1 else None
