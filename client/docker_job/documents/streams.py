"""Logs and changes of jobs, as they come."""

from dataclasses import dataclass, field
from datetime import datetime

from docker_job.documents.base import FINAL, Document


@dataclass(frozen=True, kw_only=True)
class LogLine(Document):
    """A line of a followed log.

    *id*: give it as `after` to go on behind this line; of several lines that came together only
    the last has a new one, so that no line is lost (and some may come again).
    *continues*: `split` or `unfinished` if the line goes on, see the API's how-to about logs.
    """

    text: str
    stream: str = "stdout"
    attempt: int = 1
    at: datetime | None = None
    continues: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class LogEnd(Document):
    """The end of a followed log: the job, or the attempt that was chosen, is over."""

    status: str | None = None
    exit_code: int | None = None
    attempt: int | None = None
    cause: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change(Document):
    """A change of a job's status, attempt, phase or reason. *position*: give it as `after`."""

    id: int
    docker_image: str = ""
    status: str = ""
    phase: str = ""
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    attempt: int = 1
    at: datetime | None = None
    position: str = ""

    @property
    def is_over(self) -> bool:
        """True once the job has its final status."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class Reset(Document):
    """Changes were missed, since they are no longer kept: read the list again."""

    message: str = ""
    position: str = ""
