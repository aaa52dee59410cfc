"""The meaning of server-sent events: log lines, changes of jobs."""

import json
from collections.abc import Iterable, Iterator

from docker_job.documents import FINAL, Change, LogEnd, LogLine, Reset
from docker_job.reading import read
from docker_job.sse import ServerEvent


def log_items(event: ServerEvent, previous: str | None) -> Iterator[LogLine | LogEnd]:
    """Yield the lines of an event of a log, or its end.

    An event holds several lines and counts as a whole: all lines but the last have the id of the
    *previous* event, so that to go on behind one of them loses nothing.
    """
    if event.data is None:
        return
    if event.kind == "end":
        yield read(LogEnd, json.loads(event.data), id=event.id)
    elif event.kind in ("message", "line"):
        lines = event.data.split("\n")
        for place, line in enumerate(lines, start=1):
            yield read(LogLine, json.loads(line), id=event.id if place == len(lines) else previous)


def change_items(event: ServerEvent) -> Iterator[Change | Reset]:
    """Yield the change that an event holds; a bare position holds none."""
    if event.data is None:
        return
    if event.kind == "change":
        yield read(Change, json.loads(event.data), position=event.id)
    elif event.kind == "reset":
        yield read(Reset, json.loads(event.data), position=event.id)


def to_look_at(event: ServerEvent, pending: Iterable[int]) -> list[int]:
    """Return the pending jobs that may be over after *event*: all, after what is no change."""
    for each in change_items(event):
        if isinstance(each, Change):
            return [each.id] if each.status in FINAL and each.id in set(pending) else []
    return list(pending)
