"""Memory that runs out: what the kernel kills first, and what is known of a killed container.

https://docs.kernel.org/filesystems/proc.html#proc-pid-oom-adj-proc-pid-oom-score-adj
"""

from __future__ import annotations

import contextlib

from .machine import MIB

AGENT_SCORE = -900  # on a machine of its own: the agent lives to report
CHILD_SCORE = 0
CONTAINER_SCORE = 800  # it dies first: 80 % of the machine's memory is added to what it uses
KILLED = 128 + 9  # the exit code after SIGKILL, of a shell whose child got it too


def set_score(score: int, pid: str = "self", proc: str = "/proc") -> None:
    """Set a process's preference for the kernel's OOM killer, if that is allowed."""
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/oom_score_adj", "w") as file:
        file.write(str(score))


def count_kills(vmstat: str = "/proc/vmstat") -> int:
    """Return how many processes this machine's kernel has killed for memory; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError), open(vmstat) as file:
        for line in file:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def note_of_end(exit_code: int, limit_bytes: int, *, in_container: bool, in_machine: int) -> str:
    """Return what is known about memory of a container that has ended, empty for nothing.

    *in_container*: the engine saw a kill for memory in the container's own cgroup. That may have
    been of a child whose parent went on, so it takes the exit code of a SIGKILL too. *in_machine*
    counts what the machine's kernel has killed meanwhile, for this container's memory or another's.
    """
    limit = (
        f"limit {limit_bytes // MIB} MiB"
        if limit_bytes
        else "no limit of its own, the machine's memory ran out"
    )
    if in_container and exit_code == KILLED:
        return f"out of memory: the kernel killed the container ({limit})"
    if in_container:
        return f"the kernel killed a process of the container for memory ({limit})"
    if exit_code == KILLED and in_machine:
        return (
            "killed, perhaps for memory: the container was within its own limit, and the kernel of "
            f"this machine killed {in_machine} processes for memory while it ran"
        )
    return ""
