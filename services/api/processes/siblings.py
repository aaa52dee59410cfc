"""State that the processes of one API share beside the database: what they remember of callers.

Made before the processes fork. A single process shares nothing.

It is in shared memory, so that a limit holds however a caller's connections are spread. There is no
lock: of two requests of one caller at the same time one may go uncounted, which is acceptable for a
limit on the average.
"""

import mmap
import struct
from dataclasses import dataclass, field

_ENTRY = struct.Struct("@Qd")
"""The name (a hash), and its number; each is written at once."""

WAYS = 8


class SharedTable:
    """A table of a fixed size: a number for each name; *sets* of `WAYS` entries of 16 bytes."""

    def __init__(self, sets: int = 1024) -> None:
        self._sets = sets
        self._memory = mmap.mmap(-1, _ENTRY.size * WAYS * sets)

    def read(self, name: str | bytes) -> float | None:
        """Return the number of *name*, or None if it is not in the table."""
        owner = _hash(name)
        for place in self._places(owner):
            found, number = _ENTRY.unpack_from(self._memory, place)
            if found == owner:
                return float(number)
        return None

    def write(self, name: str | bytes, number: float) -> None:
        """Store the number of *name*, in a full set in place of the smallest one."""
        owner = _hash(name)
        numbers = {}
        for place in self._places(owner):
            found, other = _ENTRY.unpack_from(self._memory, place)
            if found == owner:
                numbers = {place: other}
                break
            numbers[place] = float("-inf") if found == 0 else other
        _ENTRY.pack_into(self._memory, min(numbers, key=numbers.__getitem__), owner, number)

    def remove(self, name: str | bytes) -> None:
        """Remove *name*, if it is in the table."""
        owner = _hash(name)
        for place in self._places(owner):
            if _ENTRY.unpack_from(self._memory, place)[0] == owner:
                _ENTRY.pack_into(self._memory, place, 0, 0.0)

    def _places(self, owner: int) -> range:
        first = owner % self._sets * WAYS * _ENTRY.size
        return range(first, first + WAYS * _ENTRY.size, _ENTRY.size)


def _hash(name: str | bytes) -> int:
    # Python's own is keyed, with a key that forked processes have in common: clients cannot choose
    # two addresses that share a set. 0 is an empty place.
    return hash(name) % (2**64 - 1) + 1


@dataclass(frozen=True)
class Siblings:
    """The API's processes: how many there are, and what they share.

    Each kind of caller has a table of its own, so that a flood of the one evicts none of the other:
    *callers* holds only keys and tokens that were found to be right, *failures* the addresses of
    calls that were not, *proven* what was found to be right (`keys/failures.py`).
    """

    count: int = 1
    callers: SharedTable = field(default_factory=SharedTable)
    failures: SharedTable = field(default_factory=SharedTable)
    proven: SharedTable = field(default_factory=lambda: SharedTable(sets=8192))
