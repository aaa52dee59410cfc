"""What has happened, and the causes for which a container is stopped."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable

from .metadata import Notice

# The causes for which a container is stopped before it ends by itself.
OVER = "over"
TERMINATED = "terminated"
TIMED_OUT = "timed out"
INTERRUPTED = "interrupted"


class Situation:
    """What helper threads and signal handlers have seen, for the main thread to decide upon.

    They set a flag and wake the main thread. The wake-up is a SimpleQueue because its `put` is the
    one thing of its kind that may be called from a signal handler (it takes no lock that we may
    hold).
    """

    def __init__(self) -> None:
        self.over = False
        self.terminated = False
        self.notice: Notice | None = None
        self.stop_for_notice_at: float | None = None  # monotonic
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Have the main thread look again."""
        self._wakes.put(None)

    def record_over(self) -> None:
        """The API says that the attempt is over."""
        self.over = True
        self.wake()

    def record_terminated(self) -> None:
        """Somebody ends this agent."""
        self.terminated = True
        self.wake()

    def record_notice(self, notice: Notice, seconds_left: float) -> None:
        """The instance will be taken; the container may run on for `seconds_left`."""
        self.stop_for_notice_at = time.monotonic() + seconds_left
        self.notice = notice
        self.wake()

    def wait(self, seconds: float) -> None:
        """Wait until something happens, at most `seconds`; it may also be nothing of interest."""
        with contextlib.suppress(queue.Empty):
            self._wakes.get(timeout=min(max(0.0, seconds), 3600.0))

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done()` is true; False if it was not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.wait(left)
        return True

    def cause_not_to_start(self) -> str | None:
        """Why a container that does not run yet should not.

        An instance that is to be taken stops its attempt at once: the replacement need not wait.
        """
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        return INTERRUPTED if self.notice else None

    def cause_to_stop(self, timeout_at: float | None, now: float) -> str | None:
        """Why a running container should be stopped now."""
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        if timeout_at is not None and now >= timeout_at:
            return TIMED_OUT
        if self.stop_for_notice_at is not None and now >= self.stop_for_notice_at:
            return INTERRUPTED
        return None

    def final_cause(self, stopped_for: str | None) -> str | None:
        """The cause that the last word follows: the API's word or a SIGTERM outweighs."""
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        return stopped_for or (INTERRUPTED if self.notice else None)
