"""A cache of AWS's answers."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from shared.clock import Clock

T = TypeVar("T")

MOST_VALUES = 256
"""Some names hold what a job asks for, so there may be any number of them."""


class Cache:
    """Answers that are valid for a while; of more than `MOST_VALUES` the oldest is dropped.

    Two callers at once make one call, and a caller that stops waiting finds the answer next time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, tuple[datetime, Any]] = {}
        self._asking: dict[str, asyncio.Task[Any]] = {}

    async def get(self, name: str, seconds: float, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the value of *name*, not older than *seconds*."""
        if self.is_known(name, seconds):
            held: T = self._values[name][1]
            return held
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._ask(name, ask))
            # Retrieved here, in case that no caller waits for it any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asking[name] = task
        value: T = await asyncio.shield(task)
        return value

    def is_known(self, name: str, seconds: float) -> bool:
        """Return whether there is a value of *name*, not older than *seconds*."""
        known = self._values.get(name)
        return known is not None and self._clock.now() - known[0] < timedelta(seconds=seconds)

    async def _ask(self, name: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            value = await ask()
            self._values.pop(name, None)  # kept in the order of their age
            self._values[name] = (self._clock.now(), value)
            if len(self._values) > MOST_VALUES:
                del self._values[next(iter(self._values))]
            return value
        finally:
            del self._asking[name]

    def forget(self) -> None:
        """Forget all values: the next `get` reads again."""
        self._values.clear()
