"""Names that differ between the asynchronous half and the synchronous half that is made from it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

AsyncItems: TypeAlias = AsyncGenerator[T, None]
Items: TypeAlias = Generator[T, None, None]
"""An iterator that closes its connection when it is closed: see `contextlib.closing`."""

async_pause = asyncio.sleep
pause = time.sleep
