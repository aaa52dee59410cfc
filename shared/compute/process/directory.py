"""The state of one local instance: a directory of small files that outlives every process of ours.

    launch.json     what was asked, and when: written before anything is started
    spawn.lock      held exclusively while somebody starts the agent, shared while somebody looks
    process.lock    held by the agent's process from its birth to its death: it inherits the
    descriptor spawned.json    the process id, written after the start alive.lock, pid, ended
    the agent's own words (docs/agent-protocol.md) terminate.json  since when it is to end, and why:
    nothing is ever started where this stands gone.json       process and containers are known to be
    gone: the last word agent.log       what the agent printed

Liveness is `process.lock`, not the agent's `alive.lock`, for two reasons. Asking whether a lock is
held means taking it for an instant, and an agent that wants `alive.lock` in that instant would
think itself the second one and exit. And an inherited lock has no gap between the start of a
process and its first word, so a starting agent can never be mistaken for a dead one, nor a reused
process id for a live one.

Nothing is flushed to disk: these files must survive our own death, not the machine's (which ends
the agents too). A file that cannot be read counts as not written.
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
    """What was launched. `request` is without its bootstrap token, which is never stored."""

    request: LaunchRequest
    launched_at: datetime
    runtime: str
    hourly_price_usd: float


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """An agent process was started: its id (also its group's and its session's), and when."""

    pid: int
    at: datetime


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A moment and a reason: of the wish to end, or of the end."""

    at: datetime
    reason: str


class Stage(enum.Enum):
    """How far an instance has come, as its directory and its lock show it."""

    NEW = "asked for, never started"
    BOOTING = "its process lives, the agent has not spoken yet"
    ALIVE = "its agent runs"
    DEAD = "its process is gone; whether its containers are, is not known yet"
    GONE = "nothing of it is left"


class InstanceDir:
    """One instance's directory. Every method may block for a moment: call it in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.instance_id = path.name

    def make(self) -> None:
        """Create the directory, readable by its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def launched(self) -> Launched | None:
        """What was launched here; None: nothing yet."""
        return self._read("launch.json", Launched)

    def spawned(self) -> Spawned | None:
        """The start of its process, if that was recorded."""
        return self._read("spawned.json", Spawned)

    def ended(self) -> Ended | None:
        """The agent's last word, if it had time for one."""
        return self._read("ended", Ended)

    def ending(self) -> Ending | None:
        """Since when somebody wants its end, and why."""
        return self._read("terminate.json", Ending)

    def gone(self) -> Ending | None:
        """When it was seen to be gone, and why it ended."""
        return self._read("gone.json", Ending)

    def write_launched(self, launched: Launched) -> None:
        """Make the instance visible."""
        self._write("launch.json", launched)

    def write_spawned(self, spawned: Spawned) -> None:
        """Record the process, after its start."""
        self._write("spawned.json", spawned)

    def write_ending(self, ending: Ending) -> Ending:
        """Record the wish to end it. The first one stands, and is returned."""
        self._write("terminate.json", ending, replace=False)
        return self.ending() or ending

    def write_gone(self, gone: Ending) -> Ending:
        """Record that nothing is left. The first one stands, and is returned."""
        self._write("gone.json", gone, replace=False)
        return self.gone() or gone

    def pid(self) -> int | None:
        """The agent's process id by its own word or ours. Signal it only while it is alive."""
        with contextlib.suppress(OSError, ValueError):
            return _sane(int((self.path / "pid").read_text()))
        spawned = self.spawned()
        return None if spawned is None else _sane(spawned.pid)

    def stage(self) -> Stage:
        """How far it has come. Raises `Unknown` when somebody sits on the lock."""
        if (self.path / "gone.json").exists():
            return Stage.GONE
        with self.lock(shared=True):
            return self.stage_while_locked()

    def stage_while_locked(self) -> Stage:
        """The same for one who holds `spawn.lock`, so that no start is under way."""
        if (self.path / "gone.json").exists():
            return Stage.GONE
        if self._process_lives():
            return Stage.ALIVE if (self.path / "pid").exists() else Stage.BOOTING
        traces = ("spawned.json", "pid", "ended", "terminate.json")
        if any((self.path / name).exists() for name in traces):
            return Stage.DEAD
        return Stage.NEW

    @contextlib.contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Hold `spawn.lock`. Raises `Unknown` if it is not to be had in 5 s (a stopped replica)."""
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
    def life(self) -> Iterator[int]:
        """The locked descriptor of `process.lock`, for a child to inherit. Raises `Unknown`.

        Under `spawn.lock` only: whoever looks holds that one too, so that nobody is in the way.
        """
        descriptor = self._open("process.lock")
        try:
            if not self._try_lock(descriptor, fcntl.LOCK_EX):
                raise Unknown(f"{self.instance_id}: a process lives here already")
            yield descriptor
        finally:
            os.close(descriptor)

    def open_log(self) -> int:
        """A descriptor that appends to `agent.log`."""
        return self._open("agent.log", os.O_APPEND)

    def remove(self) -> None:
        """Forget the instance. `launch.json` goes first: a half removed directory shows nothing."""
        (self.path / "launch.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _process_lives(self) -> bool:
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
        # The directory may have been removed (and made anew) between our open and our lock.
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
