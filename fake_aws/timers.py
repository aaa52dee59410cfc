"""Timers of the cloud's own actions. After `close` none fires."""

import asyncio
from collections.abc import Callable

from fake_aws.settings import CloudSettings


class Timers:
    """Timers on the cloud's own event loop; durations are AWS's, divided by the cloud's speed."""

    def __init__(self, settings: CloudSettings) -> None:
        self._speed = settings.speed
        self._loop = asyncio.get_running_loop()
        self._handles: set[asyncio.TimerHandle] = set()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call *act* after *seconds* of AWS's time."""

        def run() -> None:
            self._handles.discard(handle)
            act()

        handle = self._loop.call_later(self.real(seconds), run)
        self._handles.add(handle)

    def real(self, seconds: float) -> float:
        """Convert AWS's *seconds* to real seconds."""
        return seconds / self._speed

    def close(self) -> None:
        """Cancel all timers."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
