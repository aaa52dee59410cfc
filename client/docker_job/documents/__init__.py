"""The documents of the API as frozen dataclasses; `raw` holds each one as it came.

A field that an older API does not send has its default; one of a newer API is in `raw` alone.
Times are aware datetimes, money is in USD, None is unknown.
"""

from docker_job.documents.base import FINAL, Document
from docker_job.documents.jobs import Attempt, Job, JobFields, ListedJob, Page
from docker_job.documents.reports import (
    About,
    Choice,
    DeadLetter,
    DeadLetters,
    Figures,
    Instance,
    Plan,
    Stats,
    Totals,
)
from docker_job.documents.streams import Change, LogEnd, LogLine, Reset

__all__ = [
    "FINAL",
    "About",
    "Attempt",
    "Change",
    "Choice",
    "DeadLetter",
    "DeadLetters",
    "Document",
    "Figures",
    "Instance",
    "Job",
    "JobFields",
    "ListedJob",
    "LogEnd",
    "LogLine",
    "Page",
    "Plan",
    "Reset",
    "Stats",
    "Totals",
]
