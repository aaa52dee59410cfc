"""Proportional set size: a process' own memory, and its share of shared memory."""

from pathlib import Path


def pss_bytes(pid: int) -> int:
    """Return the memory of process *pid*, in bytes; 0 where it has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    [line] = [line for line in rollup.splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024


def tree_bytes(pid: int) -> int:
    """Return the memory of *pid* and all of its descendants, in bytes."""
    return pss_bytes(pid) + sum(tree_bytes(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """Return the children of *pid*; it reads no other process, since it is called in a run."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text(encoding="ascii").split())
        except OSError:  # it has just ended
            continue
    return found
