"""Group commit: concurrent items are written together, and each gets a result of its own.

While one group is written the next one gathers, so that a single item does not wait and a flood is
written by the hundred. In a flood a group is closed only after all requests that have already
arrived have joined, see `QUIET_TURNS`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.postgres.pool import is_transient

QUIET_TURNS = 5
"""In a flood a group is closed after this many turns of the event loop without a new item.

A request joins a few turns after its bytes arrive, so the requests that have arrived are in the
group: groups are twice as large, and there are half as many of them.
"""

MOST_WAITING = 10_000
"""The size of the items that may wait for a group, if nothing else is said."""

LONGEST_SECONDS = 30.0
"""The longest time that an item waits for a group; a statement of a group takes no longer."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopping(Exception):
    """The service is stopping; it is unknown whether the item was written."""


_TOO_MANY = "too many requests wait for the database: try again"


class Overloaded(Exception):
    """Too much waits already: nothing of the call was done, and it may be tried again."""


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    since: float
    done: "asyncio.Future[Result]"


class Groups(Generic[Item, Result]):
    """Writes items in groups. `run` must be running for `join` to return.

    *write* writes all of a group or nothing, and returns a result for each item, in their order.
    A group takes waiting items until it has the size of *limit*; an item counts *size*. Up to
    *beside* groups of that size may be written at once; a smaller one is never written beside
    another. The database may be too slow for what comes: while items of the size *most* wait no
    other is taken, and none waits longer than *longest* seconds. Both are `Overloaded`.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int,
        stopping: str,
        size: Callable[[Item], int] = lambda _item: 1,
        beside: int = 1,
        most: int = MOST_WAITING,
        longest: float = LONGEST_SECONDS,
    ) -> None:
        self._write = write
        self._limit = limit
        self._stopping = stopping
        self._size = size
        self._beside = beside
        self._most = most
        self._longest = longest
        self._expiry: asyncio.TimerHandle | None = None
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._waiting_size = 0
        self._writing = 0
        self._flood = False
        self._changed = asyncio.Event()
        self._next = asyncio.Lock()
        self._stopped = False

    async def join(self, item: Item) -> Result:
        """Write *item*; return its durable result.

        Raises `Stopping`, `Overloaded`, or the error of the write.
        """
        if self._stopped:
            raise Stopping(self._stopping)
        if self._waiting_size >= self._most:
            raise Overloaded(_TOO_MANY)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Waiting(item, loop.time(), done))
        self._waiting_size += self._size(item)
        if self._expiry is None:
            self._expiry = loop.call_later(self._longest, self._expire)
        self._changed.set()
        return await done

    def _expire(self) -> None:
        """Refuse what has waited for too long, and look again when the next item will have."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._longest
        while self._waiting and self._waiting[0].since <= oldest:
            late = self._waiting.popleft()
            self._waiting_size -= self._size(late.item)
            _fail([late], Overloaded(_TOO_MANY))
        self._expiry = None
        if self._waiting:
            at = self._waiting[0].since + self._longest
            self._expiry = loop.call_at(at, self._expire)

    async def run(self) -> None:
        """Write group after group until cancelled; the waiting items fail then."""
        try:
            async with asyncio.TaskGroup() as writers:
                for _ in range(self._beside):
                    writers.create_task(self._write_groups())
        finally:
            self._stopped = True
            if self._expiry is not None:
                self._expiry.cancel()
            _fail(self._waiting, Stopping(self._stopping))

    async def _write_groups(self) -> None:
        while True:
            async with self._next:
                group = await self._next_group()
            self._writing += 1
            try:
                await self._write_or_fail(group)
            finally:
                self._writing -= 1
                self._changed.set()
                _fail(group, Stopping(self._stopping))  # if cancelled: all else has its result

    async def _next_group(self) -> list[_Waiting[Item, Result]]:
        while not self._waiting or (self._writing and self._waiting_size < self._limit):
            self._changed.clear()
            await self._changed.wait()
        if self._flood:
            await self._gather()  # meanwhile all may be refused: then the group is empty
        group: list[_Waiting[Item, Result]] = []
        size = 0
        while self._waiting and size < self._limit:
            group.append(self._waiting.popleft())
            size += self._size(group[-1].item)
        self._waiting_size -= size
        self._flood = len(group) > 1
        return group

    async def _gather(self) -> None:
        """Let arriving requests join. No timer: a turn of the loop ends with its work."""
        quiet = 0
        while quiet < QUIET_TURNS and (before := self._waiting_size) < self._limit:
            await asyncio.sleep(0)
            quiet = 0 if self._waiting_size > before else quiet + 1

    async def _write_or_fail(self, group: list[_Waiting[Item, Result]]) -> None:
        if not group:
            return
        try:
            await self._write_group(group)
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            if len(group) == 1 or is_transient(error):
                # The commit's outcome may be unknown: the callers must repeat or check.
                _fail(group, error)
            else:
                await self._write_singly(group)

    async def _write_singly(self, group: list[_Waiting[Item, Result]]) -> None:
        """Write one by one, so that an item that cannot be written does not fail the others."""
        for waiting in group:
            try:
                await self._write_group([waiting])
            except Exception as error:  # noqa: BLE001 - passed on to the caller
                _fail([waiting], error)

    async def _write_group(self, group: list[_Waiting[Item, Result]]) -> None:
        results = await self._write([waiting.item for waiting in group])
        for waiting, result in zip(group, results, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(result)


def _fail(group: Iterable[_Waiting[Item, Result]], error: Exception) -> None:
    for waiting in group:
        if not waiting.done.done():
            waiting.done.set_exception(error)
