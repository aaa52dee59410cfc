"""Maximum lifetime, and the end of the process or of the machine."""

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
LONGEST_WAIT_SECONDS = 1e6  # of one wait: `threading.TIMEOUT_MAX` is no less anywhere
KERNEL_TIMER_SECONDS = 30.0  # after the maximum lifetime: the kernel ends this process


def run_quietly(command: list[str], seconds: float) -> bool:
    """Run a command; return False if it failed, is missing, or took too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def press_sysrq(path: str = "/proc/sysrq-trigger") -> bool:
    """Have the kernel itself power the machine off; return False if that is denied."""
    try:
        with open(path, "w", encoding="ascii") as trigger:
            trigger.write("o")
    except OSError:
        return False
    return True


def schedule_power_off(
    seconds: float, run: Callable[[list[str], float], bool] = run_quietly
) -> bool:
    """Schedule the machine's shutdown at the maximum lifetime, independent of this process."""
    return run(["shutdown", "-h", f"+{max(1, math.ceil(seconds / 60))}"], 30.0)


def power_off(
    run: Callable[[list[str], float], bool] = run_quietly,
    sysrq: Callable[[], bool] = press_sysrq,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Power the machine off, by ever stronger means; return only if none worked."""
    for command in (["shutdown", "-h", "now"], ["systemctl", "poweroff", "-ff"]):
        log("powering off", command=command)
        if run(command, 30.0):
            wait(60.0)  # if it works, this process does not see the end of the minute
    log("powering off", command="sysrq")
    if sysrq():
        wait(60.0)


class Ending:
    """The end: record the reason, then end the process or power the machine off."""

    def __init__(self, home: InstanceDirectory, *, by_power_off: bool) -> None:
        self._home = home
        self._by_power_off = by_power_off
        self.overriding_reason: str | None = None

    def __call__(self, reason: str, code: int = EXIT_ENDED) -> NoReturn:
        """End now, by `os._exit`: a hung thread must not hold the process."""
        reason = self.overriding_reason or reason
        log("ended", reason=reason)
        self._home.record_end(reason)
        if self._by_power_off:
            power_off()
        os._exit(code)


class Lifetime:
    """The maximum lifetime: three timers, each of which works if those before it do not.

    It counts from the instance's launch, or from the agent's start where the age is not known.

    A thread removes the container and ends the process. If no thread gets to run, the kernel ends
    the process by SIGALRM (its default action needs no Python), and the guard process then removes
    the container. Where the agent may power the machine off, the scheduled shutdown needs no
    process of the agent.
    """

    def __init__(self, bounds: Bounds, ending: Ending) -> None:
        self._bounds = bounds
        self._ending = ending
        self.destroy_container: Callable[[], object] = lambda: None
        self._ends_at = 0.0  # monotonic
        self._earlier = threading.Event()

    def arm(self) -> None:
        """Start the timers; called before anything that could hang."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        self._set(self._bounds.max_lifetime_seconds)
        threading.Thread(target=self._expire, daemon=True).start()

    def count_from_launch(self, age_seconds: float | None) -> None:
        """Set the timers to what is left of the lifetime, and schedule the machine's shutdown.

        The boot script has scheduled that too: a longer one here must not replace it, so it waits
        for the age. None: that is not known.
        """
        if age_seconds is not None:
            self._set(max(0.0, self._bounds.max_lifetime_seconds - age_seconds))
            self._earlier.set()
        left = max(0.0, self._ends_at - time.monotonic())
        log("lifetime", age_seconds=age_seconds, left_seconds=left)
        if self._bounds.power_off and not schedule_power_off(left):
            log("could not schedule the machine's shutdown")

    def _set(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds + KERNEL_TIMER_SECONDS)

    def _expire(self) -> None:
        while (left := self._ends_at - time.monotonic()) > 0:
            self._earlier.wait(min(left, LONGEST_WAIT_SECONDS))
            self._earlier.clear()
        log("maximum lifetime reached", seconds=self._bounds.max_lifetime_seconds)
        # The main thread sees the container's end too, and may end the process first.
        self._ending.overriding_reason = "maximum lifetime"
        try:
            self.destroy_container()
        finally:
            self._ending("maximum lifetime")
