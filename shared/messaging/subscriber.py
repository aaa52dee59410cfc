"""How a service reacts to events of one kind: a handler of batches, and whom its rows wake."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.events.cloudevents import Envelope
from shared.postgres.pool import Transaction

Follows = Sequence[Envelope[Any]]
"""What follows from events, each made by `messaging.follow`."""

Handler = Callable[[Sequence[Envelope[Any]], Transaction], Awaitable[Follows]]
"""Events of one kind and the open transaction in, what follows from them out.

Called again for the same event only if its transaction was rolled back. No outside I/O.
"""


@dataclass(frozen=True)
class Subscriber:
    """A handler, and the sweeps of its own service that its rows may give work to."""

    handler: Handler
    wakes: tuple[str, ...] = ()
