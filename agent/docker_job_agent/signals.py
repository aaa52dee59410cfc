"""Signals by their names, as docker and the API write them."""

from __future__ import annotations

import re
import signal

_REALTIME = re.compile(r"(SIGRTMIN|SIGRTMAX)(?:([+-][0-9]+))?")


def number_of(name: str) -> int:
    """Return the number of a signal on this machine; SIGTERM's for an unknown name."""
    realtime = _REALTIME.fullmatch(name)
    base = realtime.group(1) if realtime else name
    number = int(getattr(signal, base, signal.SIGTERM))
    return number + int(realtime.group(2) or 0) if realtime else number
