"""State that the workers of a test run share: a directory, locks, servers, and notes of leftovers.

The directory is the run's TMPDIR too, in memory where that is possible: databases are made in it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 << 30
ALIVE = "alive"
ENDING = "ending"
LEFTOVERS = "leftovers"

Facts = dict[str, str]


class Run:
    """One run of pytest, by its directory; each of its processes has an object of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._held: list[object] = []

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Exclude the other workers from blocks of the same name."""
        with (self.directory / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def shared(self, name: str, make: Callable[[], Facts]) -> Facts:
        """Return the facts of a shared thing, which the first worker that asks for it makes."""
        self.start_keeper()
        with self.lock(name):
            path = self.directory / f"{name}.json"
            if not path.exists():
                facts = make()
                path.write_text(json.dumps(facts))
            found: Facts = json.loads(path.read_text())
            return found

    def hold(self, value: object) -> None:
        """Keep an object until this process ends: what it stands for outlives the process."""
        self._held.append(value)

    def take(self, kind: str, name: str) -> bool:
        """Return whether *name* was free in this run; it is taken from now on."""
        directory = self.directory / kind
        directory.mkdir(exist_ok=True)
        try:
            (directory / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def note(self, kind: str, name: str) -> None:
        """Have the keeper remove the thing about to be made, unless `forget` comes first."""
        self.start_keeper()
        path = self.directory / LEFTOVERS / f"{kind}-{uuid.uuid4().hex}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([kind, name]))

    def forget(self, kind: str, name: str) -> None:
        """Forget a thing that is removed."""
        for path, found in self.leftovers():
            if found == (kind, name):
                path.unlink()

    def leftovers(self) -> list[tuple[Path, tuple[str, str]]]:
        """Return the notes that are not forgotten, the latest first."""
        paths = (self.directory / LEFTOVERS).glob("*")
        ordered = sorted(paths, key=lambda path: -path.stat().st_mtime_ns)
        return [(path, tuple(json.loads(path.read_text()))) for path in ordered]

    def start_keeper(self) -> None:
        """Start the keeper, which outlives every worker, unless a worker has started it already."""
        with self.lock("keeper"):
            if (self.directory / ENDING).exists():
                return
            # The keeper inherits the lock: whoever gets it afterwards knows that it is done.
            file = os.open(self.directory / ENDING, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            os.set_inheritable(file, True)  # noqa: FBT003 - its only argument
            silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
            log = (
                os.POSIX_SPAWN_OPEN,
                2,
                self.directory / "keeper.log",
                os.O_CREAT | os.O_RDWR,
                384,
            )
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "tests.support.run.keeper", str(self.directory)],
                os.environ | {"PYTHONPATH": str(ROOT)},
                file_actions=[*silent, log],
                setsid=True,
            )
            os.close(file)


def make_directory() -> Path:
    """Make a directory for one run, in memory if there is enough and programs may run there."""
    base = MEMORY if _is_roomy(MEMORY) else Path(tempfile.gettempdir())
    for each in base.glob("docker-job-run-*"):
        _remove_if_left(each)
    directory = Path(tempfile.mkdtemp(prefix="docker-job-run-", dir=base))
    directory.chmod(0o711)  # root's Postgres is another user's, who must pass through
    return directory


def _remove_if_left(directory: Path) -> None:
    """Remove the directory of a run that was killed before it had a keeper."""
    with contextlib.suppress(OSError), (directory / ALIVE).open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (directory / ENDING).exists():
            shutil.rmtree(directory, ignore_errors=True)


def _is_roomy(directory: Path) -> bool:
    if not os.access(directory, os.W_OK | os.X_OK):
        return False
    free = shutil.disk_usage(directory).free
    return free >= ENOUGH_BYTES and not os.statvfs(directory).f_flag & os.ST_NOEXEC


_this: list[Run] = []


def this_run() -> Run:
    """Return the run that this process belongs to."""
    return _this[0]


def begin(directory: Path) -> Run:
    """Make it this process's run."""
    _this[:] = [Run(directory)]
    return _this[0]
