"""The bus port: what every broker adapter promises, and all that a caller may rely on.

At least once, in any order, again after a crash. `publish` returns when every message has been
confirmed; an exception means "not known", never "not sent". A delivery that is not acknowledged
comes again.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

Topology = Mapping[str, Sequence[str]]
"""Queue name -> the event names that it is bound to. Declared once, before anybody publishes."""


def bound_names(topology: Topology) -> frozenset[str]:
    """The event names that some queue of *topology* is bound to."""
    return frozenset(name for names in topology.values() for name in names)


SUSPECT = 3
"""A message that came back as often with no outcome may be what ends its readers: it is handed out
and handled alone.
"""


class Message(Struct, frozen=True, kw_only=True):
    """A batch of events on the wire: *name*, which all of them have, is the routing key.

    *id* is its outbox row's, the same for each time that it is published.
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
        """How often it was on its way to a reader before and came back with no outcome.

        0 the first time. A reader's death counts for all that was on its way to it, the innocent
        too. A close by the book may count as well: a broker need not tell the two apart.
        """
        ...

    async def ack(self) -> None:
        """It has taken effect and is committed: never deliver it to this queue again."""
        ...


class Subscription(Protocol):
    """One queue's stream of deliveries. Several subscriptions to one queue share its messages."""

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one delivery, then return it with what else is there, *limit* at most.

        Raises `BusUnavailable` where none will come: the subscription was closed or its connection
        died.
        """
        ...

    async def close(self) -> None:
        """Stop delivering; what is not acknowledged goes to the queue's next subscriber."""
        ...


class Bus(Protocol):
    """A topic exchange with one durable queue a service."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all of *messages* and return when each is confirmed.

        Raises `BusUnavailable` where that is not known; publishing them again is always safe.
        """
        ...

    async def subscribe(self, queue: str) -> Subscription:
        """Consume from *queue*, which the topology has declared."""
        ...

    async def ready(self) -> bool:
        """Whether messages can flow now."""
        ...

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        ...


class BusUnavailable(Exception):
    """The broker did not confirm: it is down, blocked or slow. What was published is unknown."""
