"""Proportional set size: a process' own memory, and its share of what it shares."""

from pathlib import Path


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
    return pss_bytes(pid) + sum(tree_bytes(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The processes that *pid* has started; no other is looked at, since this is asked in a run."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text(encoding="ascii").split())
        except OSError:  # it has just ended
            continue
    return found
