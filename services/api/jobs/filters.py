"""The filters by which users find jobs."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Order = Literal["created", "finished"]


class Filters(Struct, frozen=True, kw_only=True):
    """The conditions that a job must match, all of them. None and empty: anything.

    `labels`: pairs of name and value. `text` is a part of its id, name, image or a label's value,
    in upper or lower case. It is a job of `project`. It was accepted, or with *by* finished, from
    `since` on and before `until`.
    """

    statuses: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    image: str | None = None
    text: str | None = None
    project: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    by: Order = "created"

    @property
    def contradict(self) -> bool:
        """Two values are asked of one label: no job has both."""
        return len(dict(self.labels)) < len(set(self.labels))
