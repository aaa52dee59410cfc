"""The agent's own log."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime, timezone


def now_utc() -> datetime:
    """Return the current time, aware."""
    return datetime.now(timezone.utc)


def log(event: str, **fields: object) -> None:
    """Write one JSON line to stderr. Callers pass no token, no env value, no container output.

    One `write` and no lock: the lifetime guard must be able to log while any other thread hangs.
    """
    line = json.dumps({"at": now_utc().isoformat(), "event": event, **fields}, default=str)
    with contextlib.suppress(OSError):  # a closed stderr is no reason to stop a job
        os.write(2, line.encode() + b"\n")
