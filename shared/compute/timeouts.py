"""A deadline on a call to a cloud: no answer in time is an unknown outcome."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from shared.compute.port import Unknown

T = TypeVar("T")


async def answer_within(seconds: float, call: Awaitable[T]) -> T:
    """Await *call* and return its result. Raises `Unknown` after *seconds*: it may take effect."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as error:
        raise Unknown(f"no answer from the cloud within {seconds:g} s") from error
