"""The bus port: the promises of every broker adapter, on which callers may rely.

At least once, in any order, again after a crash. `publish` returns when every message has been
confirmed; an exception means "unknown", never "not sent". A delivery that is not acknowledged is
redelivered.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

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


class Bus(Protocol):
    """A topic exchange with one durable queue per service."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all of *messages* and return when each is confirmed.

        Raises `BusUnavailable` if that is unknown; publishing them again is always safe.
        """
        ...

    async def subscribe(self, queue: str) -> Subscription:
        """Consume from *queue*, which the topology has declared."""
        ...

    async def ready(self) -> bool:
        """Return whether messages can flow now."""
        ...

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        ...


class BusUnavailable(Exception):
    """The broker did not confirm: it is down, blocked or slow. The publish is unknown."""
