"""The next pass of a sweep: one rule for all that claim due rows in batches."""

from datetime import datetime, timedelta

HELD_ELSEWHERE_SECONDS = 1.0
"""A due row that was not claimed is locked by another transaction: look again after this time."""


def next_pass(now: datetime, *, full: bool, next_due: datetime | None) -> datetime | None:
    """Return *now* after a *full* batch, else when the next row is due; None if none waits.

    *next_due* is read after the batch was claimed, in the same transaction or a later one.
    """
    if full:
        return now
    if next_due is None:
        return None
    return next_due if next_due > now else now + timedelta(seconds=HELD_ELSEWHERE_SECONDS)
