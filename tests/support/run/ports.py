"""Ports for servers that need theirs beforehand."""

import random
import socket

from tests.support.run.state import this_run

FIRST, LAST = 10_000, 32_000
"""Below those that the system gives to outgoing connections."""


def free_port() -> int:
    """Return a port that is free now, and that no other test of this run has been given."""
    while True:
        port = random.randrange(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if this_run().take("ports", str(port)):
            return port
