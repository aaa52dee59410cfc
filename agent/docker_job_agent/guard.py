"""Role of the guard: the process that removes the container of a killed agent."""

from __future__ import annotations

import os
import signal
import time

from .engine import docker
from .lifetime import EXIT_ENDED
from .log import log
from .network import remove_network


def guard(name: str, network: str = "") -> int:
    """Wait for the agent's end, and remove its container unless the agent has reported it removed.

    With *network* the container has a network of its own, of the same name, which goes too.

    The guard has a session of its own, so that a signal to the agent's group does not reach it. Its
    stdin closes when the agent ends, and holds "done" if the container is removed. Its creation
    may still be under way when the agent dies, hence more than one try.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    received = b""
    while data := os.read(0, 64):
        received += data
    if received == b"done":
        return EXIT_ENDED
    log("the agent is gone, its container goes too", container=name)
    removed = False
    for _ in range(5):
        done = docker("rm", "--force", "--volumes", "--", name)
        removed = removed or name in done.out
        if removed and (not network or remove_network(name)):
            return EXIT_ENDED
        time.sleep(1.0)
    if network:  # it is older than the container, which may never have been created
        remove_network(name)
    return EXIT_ENDED
