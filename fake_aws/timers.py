"""What the cloud will do by itself, after a while. Closed, it does nothing more."""

import asyncio
from collections.abc import Callable

from fake_aws.settings import CloudSettings


class Timers:
    """Timers on the cloud's own loop; durations are AWS's, divided by the cloud's speed."""

    def __init__(self, settings: CloudSettings) -> None:
        self._speed = settings.speed
        self._loop = asyncio.get_running_loop()
        self._handles: set[asyncio.TimerHandle] = set()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do it after *seconds*."""

        def run() -> None:
            self._handles.discard(handle)
            act()

        handle = self._loop.call_later(self.real(seconds), run)
        self._handles.add(handle)

    def real(self, seconds: float) -> float:
        """How long AWS's *seconds* take here."""
        return seconds / self._speed

    def close(self) -> None:
        """Forget all that was planned."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
