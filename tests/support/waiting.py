"""Waits for what only other processes can bring about, and of which nothing informs a test."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.05


def until(holds: Callable[[], object], seconds: float = 60, what: str = "") -> None:
    """Ask until it holds. Raises AssertionError if it does not within *seconds*.

    Between two questions is a pause: without it they take the processor from what is awaited.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds:g} s {what}".rstrip()
        time.sleep(PAUSE_SECONDS)


async def until_it_holds(holds: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    """Await *holds* until it returns something true, as `until` does without blocking the loop."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - nothing informs us
            await asyncio.sleep(PAUSE_SECONDS)
