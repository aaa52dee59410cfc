"""The subscription of a service to one kind of event: a handler, and the sweeps that it wakes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.events.cloudevents import Envelope
from shared.postgres.pool import Transaction

Follows = Sequence[Envelope[Any]]
"""The events that follow from others, each made by `messaging.follow`."""

Handler = Callable[[Sequence[Envelope[Any]], Transaction], Awaitable[Follows]]
"""A function of events of one kind and the open transaction; it returns the events that follow.

It is called again for the same event only if its transaction was rolled back. No outside I/O.
"""


@dataclass(frozen=True)
class Subscriber:
    """A handler, and the sweeps of its service that its rows may concern."""

    handler: Handler
    wakes: tuple[str, ...] = ()
