"""CPU time by process: what a figure costs, which hardly depends on what else the machine does."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Meter:
    """Reads the CPU time of some processes, each with all that descends from it."""

    pids: Mapping[str, int]

    def read(self) -> dict[str, float]:
        """Seconds since each began."""
        return {name: family_seconds(pid) for name, pid in self.pids.items()}


def us_a_job(
    before: Mapping[str, float], after: Mapping[str, float], jobs: int
) -> dict[str, float]:
    """What each process took between two readings, in µs for each of *jobs*."""
    return {name: 1e6 * (after[name] - since) / jobs for name, since in before.items()}


def family_seconds(pid: int) -> float:
    """The CPU time of *pid* and all of its descendants, those included that have ended."""
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
    """The process *name* of this machine that calls itself *pid*, maybe within a container."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == name and _own_pid(process.pid) == pid:
                return process
    return None


def _own_pid(pid: int) -> int:
    """Its number in the innermost namespace, which it knows itself by."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next(_numbers(status), pid)


def _numbers(status: str) -> Iterator[int]:
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            yield int(line.split()[-1])
