"""Lines that say what the drill waits for, and until when."""

import time
from collections.abc import Callable

REPEAT_SECONDS = 10.0
STEP_SECONDS = 0.5


class Progress:
    """The drill's reports, each with the seconds since its start."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._began = self._reported = time.monotonic()

    def report(self, text: str) -> None:
        """Report one line."""
        self._reported = time.monotonic()
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._write(f"[{minutes:2d}:{seconds:02d}] {text}")

    def wait(
        self, what: str, passed: float, seconds: float, total: float, state: Callable[[], str]
    ) -> None:
        """Wait *seconds* of *total*, of which so many have *passed*; report the *state*."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            if now >= self._reported + REPEAT_SECONDS:
                self.report(f"{what}: {passed + now - began:.0f} of {total:.0f} s, {state()}")
            time.sleep(min(STEP_SECONDS, max(0.0, began + seconds - now)))

    def until(
        self, what: str, seconds: float, holds: Callable[[], bool], state: Callable[[], str]
    ) -> bool:
        """Wait until it *holds*, that long at most; return whether it does."""
        began = time.monotonic()
        while not holds():
            now = time.monotonic()
            if now > began + seconds:
                self.report(f"NOT SO within {seconds:.0f} s: {what} ({state()})")
                return False
            if now >= self._reported + REPEAT_SECONDS:
                waited = f"{now - began:.0f} of at most {seconds:.0f} s"
                self.report(f"waiting until {what}: {waited}, {state()}")
            time.sleep(STEP_SECONDS)
        return True
