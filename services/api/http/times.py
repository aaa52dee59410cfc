"""Times in a query: a point in time, or an age before now.

2026-11-24T10:00:00Z, 2026-11-24T10:00:00+01:00   that time; its offset from UTC is required
90s, 90m, 24h, 7d, 2w                             so long before now
"""

import re
from datetime import UTC, datetime, timedelta

from starlette.datastructures import QueryParams

from services.api.submission.request import BadRequest

FORMS = "an ISO 8601 time with its offset, like 2026-11-24T10:00:00Z, or an age, like 24h or 7d"

AGE = r"^[0-9]{1,9}[smhdw]$"
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
# A plus sign that is not percent-encoded arrives as a space.
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?)"
    r"(?:Z|([+ -])([0-9]{2}):?([0-9]{2}))"
)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


def read_time(query: QueryParams, name: str, now: datetime) -> datetime | None:
    """Read parameter *name* as a time in UTC; None if it is not given. Raises `BadRequest`."""
    raw = query.get(name)
    if raw is None:
        return None
    try:
        at = _age(raw, now) or _iso(raw.upper() if raw.isascii() else raw)
    except ValueError:  # no such day or hour
        at = None
    if at is None:
        raise BadRequest(f"{name} must be {FORMS}")
    return at


def _age(raw: str, now: datetime) -> datetime | None:
    found = _AGE.fullmatch(raw)
    if found is None:
        return None
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]]
    # All that there is is younger than the first day of the calendar.
    return now - timedelta(seconds=min(seconds, int((now - _FIRST).total_seconds())))


def _iso(raw: str) -> datetime | None:
    found = _ISO.fullmatch(raw)
    if found is None:
        return None
    sign = {None: "", " ": "+"}.get(found[2], found[2])
    offset = f"{sign}{found[3]}:{found[4]}" if found[2] else "+00:00"
    at = datetime.fromisoformat(found[1].replace(",", ".") + offset)
    try:
        return at.astimezone(UTC)
    except OverflowError:  # the calendar's first or last day, read in UTC
        return _FIRST if at.year == 1 else _LAST
