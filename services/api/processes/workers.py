"""The API as several processes behind one port: one process uses one core.

    parent: makes the sockets ─▶ forks ─▶ waits
    each child: a replica of the whole API, with a listening socket of its own; the kernel spreads
                the connections over them (SO_REUSEPORT)

A signal to stop is passed on to all, and the parent exits when they have drained. A child that
exits unexpectedly stops all, with its exit status: the supervisor restarts the API as a whole. So
does the parent's own exit, since nothing could stop its children any more.

Each child has database connections of its own, so their number is bounded (`MOST`).
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from services.api import NAME
from shared.log import get_logger
from shared.runtime.process import EXIT_CRASH
from shared.settings import Settings

CORES = 4
"""From this number of cores on the default is two processes. With fewer cores a second process
makes the groups of a commit smaller, and takes its core from Postgres and the other services.
"""

MOST = 4
"""Four have 36 connections at most, beside the other services' 27: Postgres's default is 100."""

_STOP = (signal.SIGINT, signal.SIGTERM)
_WATCHED = (*_STOP, signal.SIGCHLD)
_STOPPED = 128 + signal.SIGTERM
"""The exit status of a process that SIGTERM ended before it handled signals."""


def process_count(settings: Settings) -> int:
    """Read the number of processes. Raises `BadSetting`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return settings.integer("API_PROCESSES", 2 if cores >= CORES else 1, least=1, most=MOST)


def run_all(programs: Sequence[Callable[[], int]], sockets: Sequence[socket.socket]) -> int:
    """Run each of *programs* in a child until all have exited; return the exit status.

    Each program returns its own. Only the children keep the *sockets*. Call it before there are
    threads or an event loop.
    """
    # Blocked before the first fork: a signal in between would be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    alive, parent = os.pipe()  # read in the children, it ends with the parent
    children = set()
    for program in programs:
        child = os.fork()
        if child == 0:
            os.close(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _run_child(program, alive)
        children.add(child)
    os.close(alive)
    for each in sockets:
        each.close()
    try:
        return _wait_for(children)
    finally:
        os.close(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_child(program: Callable[[], int], alive: int) -> NoReturn:
    status = EXIT_CRASH
    try:
        threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
        status = program()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # skips the parent's clean-up code


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)
    os._exit(EXIT_CRASH)


def _wait_for(children: set[int]) -> int:
    status = 0
    stopping = False
    while children:
        number = signal.sigwait(_WATCHED)
        ended = _reap(children)
        bad = [each for each in ended.values() if each not in (0, _STOPPED)]
        if ended and not stopping:
            status = next(iter(ended.values())) or EXIT_CRASH
            get_logger(service=NAME).critical("a process ended by itself", ended=ended)
        elif bad and not status:
            status = bad[0]
        if (ended or number in _STOP) and not stopping:
            stopping = True
            for child in children:
                os.kill(child, signal.SIGTERM)
    return status


def _reap(children: set[int]) -> dict[int, int]:
    """Collect the exit statuses of ended children; as in a shell, a signal adds 128."""
    ended = {}
    for child in tuple(children):
        pid, how = os.waitpid(child, os.WNOHANG)
        if pid:
            children.remove(child)
            code = os.waitstatus_to_exitcode(how)
            ended[child] = code if code >= 0 else 128 - code
    return ended
