"""Calls of STS: how many at once, for whom, and a bounded memory of the answers.

Anyone can send a claim that only STS can refuse. So claims that name an instance of ours have a
lane of their own, and of one instance few are in it: whoever forges claims, even under the name of
one instance, takes the place of no other. What waits is bounded too, and refused beyond it.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

AT_ONCE = 16
OF_ONE = 2
"""The calls at once for claims that name the same instance."""

WAITING = 64
WAIT_SECONDS = 5.0
REMEMBERED = 10_000

Value = TypeVar("Value")


class StsUnavailable(Exception):
    """STS does not answer now: the agent claims again."""


class AnswerMemory(Generic[Value]):
    """The latest values by their digests; the oldest is dropped."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    def get(self, digest: bytes) -> Value | None:
        """Return the value, or None if it is not remembered."""
        return self._values.get(digest)

    def add(self, digest: bytes, value: Value) -> None:
        """Remember a value."""
        self._values[digest] = value
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)


class Lane:
    """Room for some calls at once, and for some that wait."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._claimants: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def room(self, claimant: str | None) -> AsyncIterator[None]:
        """Hold the room of one call. Raises `StsUnavailable` if too many wait for it."""
        name = claimant or ""
        if self._waiting >= WAITING or (name and self._claimants[name] >= OF_ONE):
            raise StsUnavailable("too many claims wait for STS: try again")
        self._claimants[name] += 1
        try:
            await self._enter()
            try:
                yield
            finally:
                self._room.release()
        finally:
            self._claimants[name] -= 1
            if not self._claimants[name]:
                del self._claimants[name]

    async def _enter(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._room.acquire()
        except TimeoutError:
            raise StsUnavailable("too many claims wait for STS: try again") from None
        finally:
            self._waiting -= 1
