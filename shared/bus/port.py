"""The bus port: the promises of every broker adapter, on which callers may rely.

At least once, in any order, again after a crash. `publish` returns which messages are not
confirmed; an exception means "unknown" for all of them, never "not sent". A delivery that is not
acknowledged is redelivered.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from msgspec import Struct

Topology = Mapping[str, Sequence[str]]
"""Queue name -> the event names that it is bound to. Declared before any publish."""


SUSPECT = 3
"""A message that was redelivered this often without an outcome may crash its readers: it is
delivered and handled alone.
"""


class Message(Struct, frozen=True, kw_only=True):
    """A batch of events on the wire; their common *name* is the routing key.

    *id* is that of its outbox row, the same for each publish.
    """

    name: str
    id: str
    body: bytes


class Delivery(Protocol):
    """One message handed to one subscriber."""

    @property
    def message(self) -> Message: ...

    @property
    def returned(self) -> int:
        """Count its redeliveries: earlier deliveries without an outcome.

        0 the first time. A reader's crash counts for every message that was delivered to it. A
        regular close may count as well: a broker need not distinguish the two.
        """
        ...

    async def ack(self) -> None:
        """Acknowledge: its effect is committed, and this queue never delivers it again."""
        ...


class Subscription(Protocol):
    """One queue's stream of deliveries. Several subscriptions to one queue share its messages."""

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for a delivery, then return it with others that are ready, at most *limit*.

        Raises `BusUnavailable` if none will come: the subscription was closed or its connection
        died.
        """
        ...

    async def close(self) -> None:
        """Stop delivering; unacknowledged messages go to the queue's next subscriber."""
        ...


class BusState(Struct, frozen=True, kw_only=True):
    """The broker as an adapter finds it now.

    *trouble* is what keeps this process's messages from flowing, as a clause about the broker ("it
    cannot be reached: …"), or None. *readers* has how many consumers each queue has that was asked
    for; None: there is no such queue. It is empty if the broker does not answer.
    """

    trouble: str | None
    readers: Mapping[str, int | None] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """The queues that do not exist: until a migration declares them, their events wait."""
        return tuple(queue for queue, count in self.readers.items() if count is None)


class Bus(Protocol):
    """A topic exchange with one durable queue per service."""

    async def publish(self, messages: Sequence[Message]) -> Mapping[str, str]:
        """Publish *messages*, and wait until each is confirmed or refused.

        Returns why, by the id of each message that is not confirmed: no queue takes it, or the
        broker refuses it; the others are confirmed. Raises `BusUnavailable` if none is confirmed
        since the broker does not answer. Publishing again is always safe.
        """
        ...

    async def subscribe(self, queue: str) -> Subscription:
        """Consume from *queue*, which the topology has declared.

        Raises `QueueMissing`, and `BusUnavailable`.
        """
        ...

    async def state(self, queues: Collection[str] = ()) -> BusState:
        """Ask the broker whether messages flow now, and for the consumers of *queues*.

        Within some seconds; raises nothing.
        """
        ...

    async def ready(self) -> bool:
        """Return whether messages can flow now."""
        ...

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        ...


class DeadMessage(Struct, frozen=True, kw_only=True):
    """A message that the broker has given up on, as its readers got it, and why, as a clause."""

    message: Message
    why: str
    dead_since: datetime | None


@runtime_checkable
class KeepsDeadMessages(Protocol):
    """A bus whose broker gives up on messages and keeps them; that in memory does neither."""

    async def count_dead(self, queue: str) -> int:
        """Count the messages of *queue* that the broker has given up on: cheap.

        Raises `BusUnavailable`.
        """
        ...

    async def find_dead(self, queue: str, limit: int) -> Sequence[DeadMessage]:
        """Return the oldest of them; they stay there. Others see them as taken meanwhile.

        Raises `BusUnavailable`.
        """
        ...


class BusUnavailable(Exception):
    """The broker did not confirm: it is down, blocked or slow. The publish is unknown."""


class QueueMissing(BusUnavailable):
    """The queue does not exist. Services declare none: the migration does."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"the broker has no queue {queue!r}: {REMEDY}")


REMEDY = "run the migration (python -m operations.migrate; docker compose up does)"
"""How a queue that is missing comes back."""
