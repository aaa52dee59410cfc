"""The calls of agents that this process has received: in memory, for its sweeps."""

import contextlib
from collections import Counter as Counts
from collections.abc import Hashable, Iterator
from datetime import datetime, timedelta

from services.api.jobs.answering import Calls, Received
from shared.clock import Clock

KEPT = timedelta(seconds=60)
"""Arrivals are kept for at least this long: longer than any call takes."""


class Counter:
    """Counts the calls of one kind."""

    def __init__(self) -> None:
        self._answered = 0
        self._failed = 0

    def count(self, *, failed: bool) -> None:
        """Count a call that was answered, or that *failed* for a fault of ours."""
        if failed:
            self._failed += 1
        else:
            self._answered += 1

    def take(self) -> Calls:
        """Return the counts since the last time."""
        calls = Calls(self._answered, self._failed)
        self._answered = self._failed = 0
        return calls


class Arrivals:
    """The times at which calls of attempts arrived: signs of life before anything is written.

    A key is whatever identifies the attempt: its token's hash, its instance, its job and number.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest: dict[Hashable, datetime] = {}
        self._older: dict[Hashable, datetime] = {}
        self._since = clock.now()
        self._waiting: Counts[Hashable] = Counts()

    @contextlib.contextmanager
    def waiting(self, key: Hashable) -> Iterator[None]:
        """Note that a call has arrived, and that it waits for the block's end."""
        self.note(key)
        self._waiting[key] += 1
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def is_waiting(self, *keys: Hashable) -> bool:
        """Return whether a call of one of *keys* waits."""
        return any(key in self._waiting for key in keys)

    def note(self, key: Hashable) -> None:
        """Note that a call with a verified token or identity has arrived."""
        now = self._clock.now()
        if now - self._since > KEPT:
            self._older, self._latest, self._since = self._latest, {}, now
        self._latest[key] = now

    def latest_of(self, *keys: Hashable) -> datetime | None:
        """Return when the last call of one of *keys* arrived; None: not lately."""
        found = (self._latest.get(key) or self._older.get(key) for key in keys)
        return max((at for at in found if at is not None), default=None)


class Reception:
    """The calls of agents that this process has received."""

    def __init__(self, clock: Clock) -> None:
        self.reports = Counter()
        self.claims = Counter()
        self.arrivals = Arrivals(clock)

    def take(self) -> Received:
        """Return the counts since the last time."""
        return Received(self.reports.take(), self.claims.take())
