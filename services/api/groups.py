"""Group commit: what many ask for at once is written together, and each gets an answer of its own.

While one group is being written the next one gathers by itself, so that whoever comes alone waits
for nobody and a flood is written by the hundred. In a flood a group is not closed before those have
joined whose requests have arrived already, see `QUIET_TURNS`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.db import is_transient

QUIET_TURNS = 5
"""Turns of the event loop after which nobody is on the way: a request joins a few turns after its
bytes came. In a flood this doubles the groups, and so halves what each of them costs."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopping(Exception):
    """The service is going down; whether what was asked for has been done is not known."""


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    done: "asyncio.Future[Result]"


class Groups(Generic[Item, Result]):
    """Writes items in groups. `run` must be running for `join` to return.

    *write* does all of a group or nothing, and returns a result for each item, in their order.
    A group takes in what waits until it has the size of *limit*; an item counts *size*.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int,
        stopping: str,
        size: Callable[[Item], int] = lambda _item: 1,
    ) -> None:
        self._write = write
        self._limit = limit
        self._stopping = stopping
        self._size = size
        self._queue: asyncio.Queue[_Waiting[Item, Result]] = asyncio.Queue()
        self._stopped = False

    async def join(self, item: Item) -> Result:
        """Have *item* written; returns when that is durable. Raises `Stopping`, or what failed."""
        if self._stopped:
            raise Stopping(self._stopping)
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Waiting(item, done))
        return await done

    async def run(self) -> None:
        """Write group after group until cancelled; nobody is left waiting then."""
        group: list[_Waiting[Item, Result]] = []
        try:
            while True:
                flood = len(group) > 1
                group = [await self._queue.get()]
                if flood:
                    await self._gather()
                size = self._size(group[0].item)
                while size < self._limit and not self._queue.empty():
                    group.append(self._queue.get_nowait())
                    size += self._size(group[-1].item)
                await self._write_or_fail(group)
        finally:
            self._stopped = True
            while not self._queue.empty():
                group.append(self._queue.get_nowait())
            _fail(group, Stopping(self._stopping))

    async def _gather(self) -> None:
        """Let those join who are on the way. No clock is involved: a turn takes what work there is."""
        quiet = 0
        while quiet < QUIET_TURNS and (joined := self._queue.qsize()) < self._limit:
            await asyncio.sleep(0)
            quiet = 0 if self._queue.qsize() > joined else quiet + 1

    async def _write_or_fail(self, group: list[_Waiting[Item, Result]]) -> None:
        try:
            await self._write_group(group)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            if len(group) == 1 or is_transient(error):
                # The commit's outcome may be unknown; who asked asks again, or looks.
                _fail(group, error)
            else:
                await self._write_singly(group)

    async def _write_singly(self, group: list[_Waiting[Item, Result]]) -> None:
        """One item that cannot be written must not fail the others of its group."""
        for waiting in group:
            try:
                await self._write_group([waiting])
            except Exception as error:  # noqa: BLE001 - whoever waits is told
                _fail([waiting], error)

    async def _write_group(self, group: list[_Waiting[Item, Result]]) -> None:
        results = await self._write([waiting.item for waiting in group])
        for waiting, result in zip(group, results, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(result)


def _fail(group: Sequence[_Waiting[Item, Result]], error: Exception) -> None:
    for waiting in group:
        if not waiting.done.done():
            waiting.done.set_exception(error)
