"""Names that differ between the asynchronous half and the synchronous half that is made from it."""

import time
from collections.abc import AsyncGenerator, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

AsyncItems: TypeAlias = AsyncGenerator[T, None]
Items: TypeAlias = Generator[T, None, None]
"""An iterator that closes its connection when it is closed: see `contextlib.closing`."""

pause = time.sleep


async def async_pause(seconds: float) -> None:
    """Sleep."""
    import asyncio  # noqa: PLC0415 - the command does without it, and starts sooner

    await asyncio.sleep(seconds)
