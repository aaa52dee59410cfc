"""The instance's first process: runs the user data as cloud-init does, and ends all with itself.

    boot.py DIRECTORY

DIRECTORY holds `user-data`; `bin/`, whose programs go before the machine's own; and `root/`, the
home. The machine is off when this process has ended, and then no process that it started is left.
It powers off at the time in the file `power` (written by the `shutdown` of `tools.py`, which sends
SIGUSR1), on SIGTERM, and when its standard input closes: a power-off by the cloud, or its end.
"""

from __future__ import annotations

import ctypes
import email
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

GRACE_SECONDS = 2.0
STEP_SECONDS = 0.02
PR_SET_CHILD_SUBREAPER = 36


def main(directory: str) -> int:
    """Boot, stay up, power off."""
    adopt_orphans()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append("SIGTERM"))
    for number in (signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    write(os.path.join(directory, "pid"), str(os.getpid()))
    log("boot: " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    for script in scripts_of(directory):
        run(script, directory)
    with open(os.path.join(directory, "console"), "ab+", buffering=0) as console:
        while not asked:
            reap()
            copy_tool_output(console)
            left = seconds_left(directory)
            if left is not None and left <= 0:
                break
            ready = select.select([wake_read, 0], [], [], left)[0]
            if wake_read in ready:
                os.read(wake_read, 4096)
            if 0 in ready and not os.read(0, 4096):
                log("boot: switched off")
                break
        end_all()
        copy_tool_output(console)
    log("boot: powered off")
    return 0


def adopt_orphans() -> None:
    """Make orphaned processes children of this one, where the kernel supports it."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass


def scripts_of(directory: str) -> list[str]:
    """Write the scripts of the user data to files; return their paths in order."""
    with open(os.path.join(directory, "user-data"), "rb") as file:
        data = file.read()
    parts = [data]
    if data[:64].lower().startswith((b"content-type: multipart/", b"mime-version:")):
        message = email.message_from_bytes(data)
        leaves = [part for part in message.walk() if not part.is_multipart()]
        parts = [bytes(part.get_payload(decode=True)) for part in leaves]
    paths = []
    for number, part in enumerate(parts):
        if part.startswith(b"#!"):
            path = os.path.join(directory, f"part-{number:03}")
            with open(path, "wb") as file:
                file.write(part)
            os.chmod(path, 0o700)
            paths.append(path)
        elif part.strip():
            log("boot: a part of the user data is not a script, and is not run")
    return paths


def run(script: str, directory: str) -> None:
    """Start a script of the user data, without a time limit."""
    environment = dict(os.environ)
    path = environment.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment["PATH"] = os.path.join(directory, "bin") + os.pathsep + path
    environment["HOME"] = os.path.join(directory, "root")
    environment["REHEARSAL_MACHINE"] = directory
    try:
        subprocess.Popen(
            [script],
            cwd=environment["HOME"],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        log(f"boot: the user data cannot be run: {error}")


def seconds_left(directory: str) -> float | None:
    """Return the seconds until the scheduled power-off; None: none is scheduled."""
    try:
        with open(os.path.join(directory, "power")) as file:
            return float(file.read()) - time.time()
    except (OSError, ValueError):
        return None


def reap() -> None:
    """Remove ended children from the process table."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_all() -> None:
    """Send SIGTERM to all descendants, and SIGKILL to those left after the grace period."""
    deadline = time.monotonic() + GRACE_SECONDS
    signalled: set[int] = set()
    while True:
        reap()
        left = descendants()
        if not left:
            return
        late = time.monotonic() > deadline
        for pid in left:
            if late or pid not in signalled:
                signalled.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                except OSError:
                    pass
        time.sleep(STEP_SECONDS)


def descendants() -> list[int]:
    """Return the ids of all processes below this one."""
    children: dict[int, list[int]] = {}
    for pid, parent, state in processes():
        if state != "Z":
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def processes() -> Iterator[tuple[int, int, str]]:
    """Yield (pid, parent, state) of every process."""
    if not os.path.isdir("/proc/self"):
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,state="], stdout=subprocess.PIPE, check=False
        )
        for line in listed.stdout.decode().splitlines():
            pid, parent, state = line.split()[:3]
            yield int(pid), int(parent), state[0]
        return
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            yield int(name), int(fields[1]), fields[0]


def write(path: str, text: str) -> None:
    """Write a file atomically."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


def copy_tool_output(console: IO[bytes]) -> None:
    """Copy the new output of the machine's tools to the console."""
    data = console.read()
    if data:
        write_console(data)


def log(text: str) -> None:
    """Write a line to the console."""
    write_console(text.encode() + b"\n")


def write_console(data: bytes) -> None:
    """Write to the console; ignore a closed pipe."""
    try:
        os.write(1, data)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
