"""State that the processes of one API share beside the database: the rate limits of callers.

Made before the processes fork. A single process shares nothing.

The callers' buckets are in shared memory, so that a limit holds however a caller's connections are
spread. There is no lock: of two requests of one caller at the same time one may go uncounted, which
is acceptable for a limit on the average.
"""

import mmap
import struct
from dataclasses import dataclass, field

_BUCKET = struct.Struct("@Qdd")
"""The caller (a hash), the requests left, and the time of that; each is written at once."""

WAYS = 8
SETS = 1024


class RateBuckets:
    """The token buckets of the latest callers: a table of a fixed size, 200 kB."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BUCKET.size * WAYS * SETS)

    def read(self, caller: str) -> tuple[float, float] | None:
        """Return the requests that *caller* had left, and when; None if it is not in the table."""
        owner = _hash(caller)
        for place in self._places(owner):
            found, left, at = _BUCKET.unpack_from(self._memory, place)
            if found == owner:
                return left, at
        return None

    def write(self, caller: str, left: float, at: float) -> None:
        """Store a bucket in place of the one that is unused for longest."""
        owner = _hash(caller)
        ages = {}
        for place in self._places(owner):
            found, _, since = _BUCKET.unpack_from(self._memory, place)
            ages[place] = float("-inf") if found == owner else since
        _BUCKET.pack_into(self._memory, min(ages, key=ages.__getitem__), owner, left, at)

    def _places(self, owner: int) -> range:
        first = owner % SETS * WAYS * _BUCKET.size
        return range(first, first + WAYS * _BUCKET.size, _BUCKET.size)


def _hash(caller: str) -> int:
    # Python's own is keyed, with a key that forked processes have in common: clients cannot choose
    # two addresses that share a bucket. 0 is an empty place.
    return hash(caller) % (2**64 - 1) + 1


@dataclass(frozen=True)
class Siblings:
    """The API's processes: how many there are, and what they share."""

    count: int = 1
    buckets: RateBuckets = field(default_factory=RateBuckets)
