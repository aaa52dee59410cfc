"""The bus inside one process, with the same promises as the broker.

Its messages do not survive the process, and need not: a publish is confirmed only when every bound
queue has acknowledged the message, so until it has taken effect it stays in the publisher's outbox,
from which the next start publishes it again. At least once, any order; with a *chaos* source it
shuffles and duplicates deliveries, as in the tests.
"""

import asyncio
import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from shared.bus.port import BusState, BusUnavailable, Message, QueueMissing, Topology


class _Queued:
    """One message in one queue, until it is acknowledged."""

    def __init__(self, message: Message, queue: "_Queue") -> None:
        self.message = message
        self.returned = 0
        self.acknowledged = asyncio.get_running_loop().create_future()
        self._queue = queue

    async def ack(self) -> None:
        self._queue.forget(self)
        if not self.acknowledged.done():
            self.acknowledged.set_result(None)


class _Queue:
    def __init__(self, chaos: random.Random | None) -> None:
        self._chaos = chaos
        self.ready: deque[_Queued] = deque()
        self.pending: dict[str, _Queued] = {}
        self.filled = asyncio.Event()
        self.readers = 0

    def put(self, message: Message) -> _Queued:
        """Enqueue, unless the same message is still here: then its publisher only repeats it."""
        queued = self.pending.get(message.id)
        if queued is None:
            queued = self.pending[message.id] = _Queued(message, self)
            self.ready.append(queued)
            # Duplicated once, here: duplicating the queue would let it grow faster than it is read.
            if self._chaos and self._chaos.random() < 0.2:
                self.ready.append(queued)
            self.filled.set()
        return queued

    def put_back(self, queued: _Queued) -> None:
        if not queued.acknowledged.done():
            queued.returned += 1
            self.ready.append(queued)
            self.filled.set()

    def forget(self, queued: _Queued) -> None:
        if self.pending.get(queued.message.id) is queued:
            del self.pending[queued.message.id]


class _Subscription:
    def __init__(self, queue: _Queue, chaos: random.Random | None) -> None:
        self._queue = queue
        self._chaos = chaos
        self._taken: list[_Queued] = []
        self._closed = False
        queue.readers += 1

    async def take(self, limit: int) -> Sequence[_Queued]:
        queue = self._queue
        while not queue.ready and not self._closed:
            queue.filled.clear()
            await queue.filled.wait()
        if self._closed:  # a message taken now would not be put back
            raise BusUnavailable("the subscription is closed")
        if self._chaos:
            self._chaos.shuffle(queue.ready)
        batch = [queue.ready.popleft() for _ in range(min(limit, len(queue.ready)))]
        self._taken = [each for each in self._taken if not each.acknowledged.done()] + batch
        return batch

    async def close(self) -> None:
        self._queue.readers -= not self._closed
        self._closed = True
        self._queue.filled.set()
        for queued in dict.fromkeys(self._taken):  # a message may have been taken twice
            self._queue.put_back(queued)
        self._taken = []


class MemoryBus:
    """A topic exchange and its queues in this process's memory."""

    def __init__(self, topology: Topology, chaos: random.Random | None = None) -> None:
        self._queues = {queue: _Queue(chaos) for queue in topology}
        self._bound: dict[str, list[_Queue]] = {}
        for queue, names in topology.items():
            for name in names:
                self._bound.setdefault(name, []).append(self._queues[queue])
        self._chaos = chaos
        self._closed = asyncio.Event()

    async def publish(self, messages: Sequence[Message]) -> Mapping[str, str]:
        """Enqueue, and return when every queue has acknowledged every message."""
        waiting = [
            queue.put(message).acknowledged
            for message in messages
            for queue in self._bound.get(message.name, ())
        ]
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            # One future for all acknowledgements: `closed` must not have to beat each of them.
            everything = asyncio.gather(*waiting)
            either: list[asyncio.Future[Any]] = [everything, closed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                raise BusUnavailable("the bus is closing")
        finally:
            closed.cancel()
        return {}

    async def subscribe(self, queue: str) -> _Subscription:
        if queue not in self._queues:
            raise QueueMissing(queue)
        return _Subscription(self._queues[queue], self._chaos)

    async def state(self, queues: Collection[str] = ()) -> BusState:
        if self._closed.is_set():
            return BusState(trouble="it is closed")
        found = {name: self._queues.get(name) for name in queues}
        readers = {name: None if each is None else each.readers for name, each in found.items()}
        return BusState(trouble=None, readers=readers)

    async def ready(self) -> bool:
        return (await self.state()).trouble is None

    async def close(self) -> None:
        """Stop all publishers that wait; unconfirmed messages stay in their outboxes."""
        self._closed.set()
