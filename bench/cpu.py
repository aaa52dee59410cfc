"""CPU time by process: a cost that hardly depends on the machine's other load."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Meter:
    """Reads the CPU time of some processes, each with its descendants."""

    pids: Mapping[str, int]

    def read(self) -> dict[str, float]:
        """Return the seconds of CPU time since each process began."""
        return {name: family_seconds(pid) for name, pid in self.pids.items()}


def us_a_job(
    before: Mapping[str, float], after: Mapping[str, float], jobs: int
) -> dict[str, float]:
    """Return each process' CPU time between two readings, in µs a job."""
    return {name: 1e6 * (after[name] - since) / jobs for name, since in before.items()}


def family_seconds(pid: int) -> float:
    """Return the CPU time of *pid* and its descendants, ended ones included."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_seconds(each) for each in family)


def _seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def find(name: str, pid: int) -> psutil.Process | None:
    """Find the process *name* of this machine by the pid that it has in its own namespace."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == name and _own_pid(process.pid) == pid:
                return process
    return None


def _own_pid(pid: int) -> int:
    """Return its pid in its innermost namespace."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next(_numbers(status), pid)


def _numbers(status: str) -> Iterator[int]:
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            yield int(line.split()[-1])
