"""Proportional set size: a process' own memory, and its share of what it shares."""

from collections.abc import Iterable
from pathlib import Path

import psutil


def pss_bytes(pid: int) -> int:
    """What process *pid* holds; 0 where it has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    [line] = [line for line in rollup.splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024


def tree_bytes(pid: int) -> int:
    """What *pid* and all of its descendants hold."""
    family: Iterable[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return pss_bytes(pid) + sum(pss_bytes(each.pid) for each in family)
