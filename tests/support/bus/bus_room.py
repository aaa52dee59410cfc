"""The bus of one adapter, as the contract suite uses it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from shared.bus.port import Bus, Subscription, Topology


def bound_names(topology: Topology) -> frozenset[str]:
    """Return the event names that some queue of *topology* is bound to."""
    return frozenset(name for names in topology.values() for name in names)


@dataclass(frozen=True)
class BusRoom:
    """An empty bus, and the operations that only its adapter can do."""

    bus: Bus
    mortal_reader: Callable[[str], AbstractAsyncContextManager[Subscription]]
    """A reader of the queue, as in a process of its own, that dies at the end of the block."""
