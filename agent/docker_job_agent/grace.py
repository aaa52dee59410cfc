"""The time that a container has between the signal that stops it and SIGKILL. Pure."""

from __future__ import annotations

from .decisions import INTERRUPTED
from .job import Settings

REPORT_SECONDS = 10.0  # of an interruption's margin, for SIGKILL, the last lines and the callback


def grace_seconds(settings: Settings, cause: str) -> float:
    """Return the job's grace; after an interruption notice, at most what the margin leaves.

    The instance is reclaimed a margin after the stop, whatever the container still does.
    """
    if cause != INTERRUPTED:
        return settings.stop_grace_seconds
    margin = settings.interruption_margin_seconds
    return min(settings.stop_grace_seconds, margin - min(REPORT_SECONDS, margin / 3))
