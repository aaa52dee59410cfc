"""The progress of a pull, from the objects that the engine sends. No I/O, no clock.

The statuses are those of both image stores (moby: daemon/internal/distribution/xfer/download.go,
daemon/containerd/progress.go). The older one sends an object when bytes came, 1 % or 512 kB at the
latest; the one of containerd sends the same object each 100 ms, also when nothing has changed.
"""

from __future__ import annotations

import threading
from typing import Any

ASKING = "asking the registry"
DOWNLOADING = "Downloading"
EXTRACTING = "Extracting"
DOWNLOADED = ("Verifying Checksum", "Download complete")
COMPLETE = ("Pull complete", "Already exists")
RETRYING = "Retrying"  # "Retrying in 5 seconds", counted down: no progress
MB = 1_000_000


class Layer:
    """A layer: its last status, and its bytes as far as they are known."""

    def __init__(self) -> None:
        self.status = ""
        self.downloaded = 0
        self.extracted = 0
        self.total = 0

    @property
    def is_complete(self) -> bool:
        """Return whether nothing more is to be done for it."""
        return self.status in COMPLETE

    @property
    def is_downloaded(self) -> bool:
        """Return whether no byte of it is awaited."""
        if self.status == DOWNLOADING:
            return self.downloaded >= self.total > 0  # the disk has not yet confirmed them
        return self.is_complete or self.status == EXTRACTING or self.status in DOWNLOADED

    def take(self, status: str, current: int, total: int) -> None:
        """Take a status with its counts, 0 where it has none."""
        self.status = status
        if status == DOWNLOADING:
            self.downloaded = current
            self.total = max(total, current) if total else 0
        elif status == EXTRACTING and total:  # else it counts seconds
            self.extracted, self.total = current, total
        if self.is_downloaded:
            self.downloaded = self.total = max(self.total, self.downloaded)
        if self.is_complete:
            self.extracted = self.total

    def shown(self) -> tuple[object, ...]:
        """Return what differs where there is progress."""
        return self.status, self.downloaded, self.extracted, self.total


class PullProgress:
    """The layers of an image that is being pulled. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: dict[str, Layer] = {}
        self._other = ("", "")  # the last status that is of no layer

    def take(self, message: dict[str, Any]) -> bool:
        """Take an object of the stream; return whether it shows progress."""
        status, name = str(message.get("status") or ""), str(message.get("id") or "")
        counts = message.get("progressDetail")
        with self._lock:
            if not isinstance(counts, dict):  # of the image, not of a layer
                other, self._other = self._other, (name, status)
                return other != self._other
            layer = self._layers.setdefault(name, Layer())
            before = layer.shown()
            status = RETRYING if status.startswith(RETRYING) else status
            layer.take(status, _count(counts.get("current")), _count(counts.get("total")))
            return before != layer.shown()

    def detail(self) -> str:
        """Return what users see: `pulling 340 of 1,200 MB, 5 of 9 layers`.

        The MB are those of the layers that have begun: the engine names no other sizes.
        """
        with self._lock:
            layers = list(self._layers.values())
        if not layers:
            return ASKING
        unknown = any(each.downloaded > each.total for each in layers)
        total = 0 if unknown else sum(each.total for each in layers)
        if all(each.is_downloaded for each in layers):
            done = sum(each.is_complete for each in layers)
            size = _size(sum(each.extracted for each in layers), total)
            return f"extracting{size}, {done} of {len(layers)} layers"
        done = sum(each.is_downloaded for each in layers)
        size = _size(sum(each.downloaded for each in layers), total)
        return f"pulling{size}, {done} of {len(layers)} layers"

    def waits_for_bytes(self) -> bool:
        """Return whether the registry alone can bring the pull on.

        Otherwise the machine's disk is at work. That may take minutes without any progress: a last
        `Extracting` is followed by a sync, and some engines send nothing while they extract.
        """
        with self._lock:
            layers = list(self._layers.values())
        if any(each.status == EXTRACTING for each in layers):
            return False
        if not all(each.is_downloaded for each in layers):
            return True
        return all(each.is_complete for each in layers)  # its configuration is missing, if anything


def _count(given: object) -> int:
    """Return a count of bytes; an unknown one is missing, 0 or -1."""
    return max(0, int(given)) if isinstance(given, (int, float)) else 0


def _size(done: int, total: int) -> str:
    """Return ` 340 of 1,200 MB`, ` 340 MB` if the whole is unknown, empty without any byte."""
    digits = 1 if max(done, total) < 10 * MB else 0
    if total:
        return f" {done / MB:,.{digits}f} of {total / MB:,.{digits}f} MB"
    return f" {done / MB:,.{digits}f} MB" if done else ""
