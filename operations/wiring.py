"""The four services, and which events go from which of them to which."""

from services import api, launcher, reaper, scheduler
from shared.bus.port import Topology

SERVICES = (api, scheduler, launcher, reaper)

TOPOLOGY: Topology = {
    service.NAME: tuple(event.__name__ for event in service.CONSUMES) for service in SERVICES
}
"""One queue a service, bound to the events that it consumes."""

PUBLISHES = {
    service.NAME: tuple(event.__name__ for event in service.PUBLISHES) for service in SERVICES
}
"""The events that each service may publish."""

Pair = tuple[str, str, list[str]]
"""A publisher, a reader, and the names of the events from the one to the other."""

PAIRS: list[Pair] = [
    (publisher.NAME, reader.NAME, names)
    for publisher in SERVICES
    for reader in SERVICES
    if (names := [event.__name__ for event in publisher.PUBLISHES if event in reader.CONSUMES])
]
