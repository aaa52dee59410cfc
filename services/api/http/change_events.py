"""The changes of jobs as server-sent events.

id: 5f3a9c01.1207             behind what the client has; sent first, and when nothing was sent
event: change                 one for each change that it wants
event: reset                  some were missed: the client reads the list again
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import Struct

from services.api.changes.feed import PAGE, ChangeFeed
from services.api.changes.filters import ChangeFilter
from services.api.changes.followers import Followers
from services.api.changes.store import ChangePosition, JobChange
from services.api.http.sse import STILL_HERE, Quiet

REST_SECONDS = 0.05
"""The time between two reads of a follower who has all: in a burst it gets several changes at once.
"""

RESET = "changes after this id are no longer known: read the list again"

_encode = msgspec.json.Encoder().encode


class ChangeEvent(Struct, frozen=True):
    """The data of a change."""

    id: int
    name: str | None
    docker_image: str
    labels: dict[str, str]
    status: str
    phase: str
    reason: str
    attempt: int
    at: datetime


@dataclass(frozen=True)
class ChangeEvents:
    """The changes that *wanted* wants, followed."""

    feed: ChangeFeed
    followers: Followers
    wanted: ChangeFilter

    async def stream(self, after: ChangePosition) -> AsyncIterator[str]:
        """Stream the changes after a position, as they are committed, without an end."""
        clock = self.feed.db.clock
        with self.followers.follow_all() as changed:
            yield _place(after)
            quiet = Quiet(clock)
            while True:
                changed.clear()
                page = await self.feed.read(after)
                after = page.last
                text = _reset(after) if page.lost else self._events(page.changes, after)
                if not text and quiet.is_long():
                    # The place too: else a client that wants little would resume from too far back.
                    text = STILL_HERE + _place(after)
                if text:
                    quiet.end()
                    yield text
                if not page.changes:
                    await clock.wait(changed, quiet.seconds_left())
                elif len(page.changes) < PAGE:
                    await asyncio.sleep(REST_SECONDS)

    def _events(self, changes: tuple[JobChange, ...], last: ChangePosition) -> str:
        return "".join(_event(each, last.epoch) for each in changes if self.wanted.wants(each))


def _place(position: ChangePosition) -> str:
    return f"id: {position}\n\n"


def _reset(now: ChangePosition) -> str:
    data = _encode({"message": RESET}).decode()
    return f"event: reset\nid: {now}\ndata: {data}\n\n"


def _event(change: JobChange, epoch: str) -> str:
    data = _encode(
        ChangeEvent(
            change.job_id,
            change.name,
            change.docker_image,
            change.labels,
            change.status,
            change.phase,
            change.reason,
            change.attempt,
            change.at,
        )
    ).decode()
    return f"event: change\nid: {ChangePosition(epoch, change.number)}\ndata: {data}\n\n"
