"""The way from a due job to its launch: broker, scheduler and launcher, as the API sees them.

The API is not told by an event that another service is away. It looks every few seconds, so that a
due job says what it waits for.
"""

from collections.abc import Awaitable, Callable, Mapping

from shared.runtime.readiness import Readiness

WATCH_SECONDS = 3.0

ON_THE_WAY = ("scheduler", "launcher")
"""The services between a due job and its instance, by the names of their queues."""


class LaunchPath:
    """The result of the last look; *look* asks database and broker."""

    def __init__(self, look: Callable[[], Awaitable[Readiness]]) -> None:
        self._look = look
        self._latest: Readiness | None = None

    async def watch(self) -> None:
        """Look now."""
        self._latest = await self._look()

    def trouble(self) -> str | None:
        """Return why no due job can be launched now; None: as far as the API knows, each can."""
        return None if self._latest is None else decide_trouble(self._latest)


def decide_trouble(readiness: Readiness) -> str | None:
    """Return what interrupts the way from a due job to its launch, as a clause."""
    if "bus" in readiness.troubles:
        return "the broker does not work now: events wait until it does"
    for queue in ON_THE_WAY:
        if queue in readiness.readers and not readiness.readers[queue]:
            return _WITHOUT_READER[readiness.readers[queue]].format(queue)
    return None


_WITHOUT_READER: Mapping[int | None, str] = {
    0: "the {} is not running",
    None: "the broker has no queue for the {}: the migration must run",
}
