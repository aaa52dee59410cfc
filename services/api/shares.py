"""Room that the API's callers share, so that a flood of one key does not lock out another.

A key may hold as much as would be left free then: one alone half of the room, each of two a third,
and whoever comes next finds some. It is the dynamic threshold of shared buffers (Choudhury and
Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on
Networking 6(2), 1998). While there is no key there is one caller, who may hold all of it.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator


class ShareUsed(Exception):
    """The caller holds its share already: nothing of the call was done, it may be tried again."""


class Shares:
    """A room of *size*; *full* is the message of `ShareUsed`."""

    def __init__(self, size: int, full: str) -> None:
        self.size = size
        self.held = 0
        self._of: Counter[str] = Counter()
        self._full = full

    def take(self, key: str | None, count: int = 1) -> None:
        """Take room for *key*, None if there is none; `give_back` returns it. Raises `ShareUsed`.

        A caller who holds nothing may take all that is free.
        """
        left = self.size - self.held - count
        held = 0 if key is None else self._of[key]
        if left < 0 or (held and held + count > left):
            raise ShareUsed(self._full)
        self.held += count
        if key is not None:
            self._of[key] += count

    def give_back(self, key: str | None, count: int = 1) -> None:
        """Return room that was taken."""
        self.held -= count
        if key is not None:
            self._of[key] -= count
            if not self._of[key]:
                del self._of[key]

    @contextlib.contextmanager
    def holding(self, key: str | None, count: int = 1) -> Iterator[None]:
        """Hold room until the block is left. Raises `ShareUsed`."""
        self.take(key, count)
        try:
            yield
        finally:
            self.give_back(key, count)
