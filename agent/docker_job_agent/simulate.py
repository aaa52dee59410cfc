"""Role of the simulated container: the child process that stands for one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import threading


def simulate() -> int:
    """Print what would have run, then wait, print and exit as the SIMULATE_* variables say.

    The plan comes as one line on stdin. The pipe then stays open: it closes when the agent dies,
    and the simulated container then ends as if by SIGKILL.
    """
    end_at(signal.SIGTERM)
    plan = json.loads(read_line(0))
    end_at(plan.get("stop_signal") or signal.SIGTERM)
    env = plan["env"]
    write_line(1, "simulated, no container engine: would run " + shlex.join(plan["would_run"]))
    try:
        seconds = float(env.get("SIMULATE_SECONDS") or 0)
        code = int(env.get("SIMULATE_EXIT_CODE") or 0)
    except ValueError:
        seconds, code = -1.0, -1
    if not (0 <= seconds < threading.TIMEOUT_MAX and 0 <= code <= 255):
        write_line(
            2, "simulated: SIMULATE_SECONDS must be a number, SIMULATE_EXIT_CODE one from 0 to 255"
        )
        return 2
    if seconds and select.select([0], [], [], seconds)[0]:
        return 128 + signal.SIGKILL
    if "SIMULATE_OUTPUT" in env:
        write_line(1, env["SIMULATE_OUTPUT"])
    if "SIMULATE_ERROR" in env:
        write_line(2, env["SIMULATE_ERROR"])
    elif code:
        write_line(2, f"simulated: exit code {code}")
    return code


def end_at(number: int) -> None:
    """End at a signal, with the exit code that a shell gives."""
    with contextlib.suppress(OSError):  # SIGKILL needs no handler
        # `os._exit`: the handler may run in the middle of anything.
        signal.signal(number, lambda *_: os._exit(128 + number))


def read_line(descriptor: int) -> bytes:
    """Read one line without buffering: `select` must see what follows it."""
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        data += piece
    return data or b"{}"


def write_line(descriptor: int, text: str) -> None:
    """Print a line at once, whatever the locale."""
    data = text.encode("utf-8", "replace") + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
