"""Events that threads and signal handlers have seen, for the main thread to decide upon."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable

from .decisions import INTERRUPTED, OVER, TERMINATED, TIMED_OUT
from .metadata import Notice


class Situation:
    """Events that threads and signal handlers have seen, for the main thread to decide upon.

    They set a flag and wake the main thread. The wake-up is a SimpleQueue because a signal handler
    may call its `put`: it takes no lock that the interrupted thread may hold.
    """

    def __init__(self) -> None:
        self.over = False
        self.terminated = False
        self.notice: Notice | None = None
        self.stop_for_notice_at: float | None = None  # monotonic
        self.taken_at: float | None = None  # monotonic, when EC2 takes the instance
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Wake the main thread."""
        self._wakes.put(None)

    def record_over(self) -> None:
        """Record that the attempt is over, as the API has answered."""
        self.over = True
        self.wake()

    def record_terminated(self) -> None:
        """Record a SIGTERM to the agent."""
        self.terminated = True
        self.wake()

    def record_notice(
        self, notice: Notice, seconds_left: float, instance_seconds: float | None = None
    ) -> None:
        """Record an interruption notice; the container may run for another `seconds_left`.

        EC2 takes the instance in `instance_seconds`; None: that is not known.
        """
        now = time.monotonic()
        self.stop_for_notice_at = now + seconds_left
        self.taken_at = None if instance_seconds is None else now + instance_seconds
        self.notice = notice
        self.wake()

    def wait(self, seconds: float) -> None:
        """Wait for a wake-up, at most `seconds`; a wake-up may have no consequence."""
        with contextlib.suppress(queue.Empty):
            self._wakes.get(timeout=min(max(0.0, seconds), 3600.0))

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done()` is true; return False if it is not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.wait(left)
        return True

    def cause_not_to_start(self) -> str | None:
        """Return why a container that does not run yet must not start, None if it may.

        After an interruption notice nothing is started: the replacement need not wait.
        """
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        return INTERRUPTED if self.notice else None

    def cause_to_stop(self, timeout_at: float | None, now: float) -> str | None:
        """Return why a running container must be stopped now, None if it may run on."""
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        if timeout_at is not None and now >= timeout_at:
            return TIMED_OUT
        if self.stop_for_notice_at is not None and now >= self.stop_for_notice_at:
            return INTERRUPTED
        return None

    def final_cause(self, stopped_for: str | None) -> str | None:
        """Return the cause for the final callback: first the end of the attempt, then SIGTERM."""
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        return stopped_for or (INTERRUPTED if self.notice else None)
