"""The maximum lifetime, and the end of the process or the machine."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from .environment import Bounds
from .instance_dir import InstanceDirectory
from .log import log

EXIT_ENDED = 0
EXIT_INSTANCE_TAKEN = 75  # EX_TEMPFAIL: another agent holds this instance directory
EXIT_BAD_CONFIGURATION = 78  # EX_CONFIG
KERNEL_TIMER_SECONDS = 30.0  # after the maximum lifetime: the kernel ends this process


def run_quietly(command: list[str], seconds: float) -> bool:
    """Run a command of the machine; False if it failed, is not there, or took too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def press_sysrq(path: str = "/proc/sysrq-trigger") -> bool:
    """Ask the kernel itself to power off: nothing is left that could refuse."""
    try:
        with open(path, "w", encoding="ascii") as trigger:
            trigger.write("o")
    except OSError:
        return False
    return True


def schedule_power_off(
    seconds: float, run: Callable[[list[str], float], bool] = run_quietly
) -> bool:
    """Have the machine power itself off at the maximum lifetime, whether we live or not."""
    return run(["shutdown", "-h", f"+{max(1, math.ceil(seconds / 60))}"], 30.0)


def power_off(
    run: Callable[[list[str], float], bool] = run_quietly,
    sysrq: Callable[[], bool] = press_sysrq,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Power the machine off, harder and harder. Returns only if nothing worked."""
    for command in (["shutdown", "-h", "now"], ["systemctl", "poweroff", "-ff"]):
        log("powering off", command=command)
        if run(command, 30.0):
            wait(60.0)  # if it works, this process does not see the end of the minute
    log("powering off", command="sysrq")
    if sysrq():
        wait(60.0)


class Ending:
    """The last act: leave a note, then end the process or power the machine off."""

    def __init__(self, home: InstanceDirectory, *, by_power_off: bool) -> None:
        self._home = home
        self._by_power_off = by_power_off

    def __call__(self, reason: str, code: int = EXIT_ENDED) -> NoReturn:
        """End now. `os._exit` because a hung helper thread must not hold the process."""
        log("ended", reason=reason)
        self._home.record_end(reason)
        if self._by_power_off:
            power_off()
        os._exit(code)


class Lifetime:
    """The maximum lifetime: three guards, each working if the ones before it do not.

    A thread ends container and process in an orderly way; if no thread of ours gets to run any
    more, the kernel ends the process by SIGALRM (its default action needs no Python) and the
    container's guard process sees that; where the machine is ours, its own scheduled shutdown needs
    none of us.
    """

    def __init__(self, bounds: Bounds, ending: Ending) -> None:
        self._bounds = bounds
        self._ending = ending
        self.destroy_container: Callable[[], None] = lambda: None

    def arm(self) -> None:
        """Start the clock. Called before anything that could hang."""
        seconds = self._bounds.max_lifetime_seconds
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, seconds + KERNEL_TIMER_SECONDS)
        threading.Thread(target=self._expire, args=(seconds,), daemon=True).start()
        if self._bounds.power_off and not schedule_power_off(seconds):
            log("could not schedule the machine's shutdown")

    def _expire(self, seconds: float) -> None:
        time.sleep(seconds)
        log("maximum lifetime reached", seconds=seconds)
        try:
            self.destroy_container()
        finally:
            self._ending("maximum lifetime")
