"""The role of the container's guard."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .engine import docker
from .lifetime import EXIT_ENDED
from .log import log


def guard(name: str, env_file: str) -> int:
    """The container's guard: if the agent dies without "done", kill and remove what it left behind.

    It has a session of its own, so that what kills the agent's group does not kill it, and ends
    with the agent. A `docker create` may still be under way when the agent dies, hence more than
    one try.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while data := os.read(0, 64):
        said += data
    if said == b"done":
        return EXIT_ENDED
    log("the agent is gone, its container goes too", container=name)
    with contextlib.suppress(OSError):
        os.unlink(env_file)
    for _ in range(5):
        done = docker("rm", "--force", "--volumes", "--", name)
        if name in done.out:
            break
        time.sleep(1.0)
    return EXIT_ENDED
