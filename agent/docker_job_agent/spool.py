"""Blocks of lines on the instance's disk, for which memory has no room."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from typing import NamedTuple

from .lines import Line
from .log import log

SLOT_BYTES = 256 * 1024  # at most, for a block of one batch
RESERVE_BYTES = 64 * 1024 * 1024  # of the disk, which are the job's


class Place(NamedTuple):
    """A block's place in the file."""

    slot: int
    size: int


class Spool:
    """A file without a name, which ends with the agent, however that ends; its owner's alone.

    The file has slots of one size, sparsely filled, that are used again: it is no longer than what
    was in it at once. A disk that is full is no error: then `works` is false.
    """

    def __init__(self, directory: str, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._directory = directory
        self._reserve = reserve_bytes
        self._file: int | None = None  # its descriptor, open until the agent ends
        self._free: list[int] = []
        self._slots = 0
        self.works = True

    def write(self, lines: list[Line]) -> Place | None:
        """Write a block; return None if the disk has no room."""
        data = zlib.compress(json.dumps(lines).encode(), 1)
        slot = self._free.pop() if self._free else self._slots
        self._slots = max(self._slots, slot + 1)
        try:
            written = len(data) <= SLOT_BYTES and self._write(data, slot)
            trouble = "" if written else "no room"
        except OSError as error:
            written, trouble = False, str(error)
        if not written:
            self._release(slot)
            if self.works:
                log("lines could not be written to the disk", trouble=trouble)
        self.works = written
        return Place(slot, len(data)) if written else None

    def read(self, place: Place) -> list[Line]:
        """Read a block, and free its place; empty if the disk has lost it."""
        try:
            data = os.pread(self._descriptor(), place.size, place.slot * SLOT_BYTES)
            return [Line(*each) for each in json.loads(zlib.decompress(data))]
        except (OSError, zlib.error, ValueError, TypeError) as error:
            log("lines could not be read from the disk", error=str(error))
            return []
        finally:
            self._release(place.slot)

    def _write(self, data: bytes, slot: int) -> bool:
        descriptor = self._descriptor()
        disk = os.fstatvfs(descriptor)
        if disk.f_bavail * disk.f_frsize < len(data) + self._reserve:
            return False
        return os.pwrite(descriptor, data, slot * SLOT_BYTES) == len(data)

    def _descriptor(self) -> int:
        if self._file is None:
            self._file, path = tempfile.mkstemp(prefix="docker-job-lines-", dir=self._directory)
            os.unlink(path)
        return self._file

    def _release(self, slot: int) -> None:
        self._free.append(slot)
        if len(self._free) == self._slots and self._file is not None:  # give the disk back
            self._free, self._slots = [], 0
            try:
                os.ftruncate(self._file, 0)
            except OSError as error:
                log("the file of lines could not be emptied", error=str(error))
