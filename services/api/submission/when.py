"""`scheduled_for`: the forms in which a time may be written, and the time that each means.

2026-11-24T10:00:00+01:00   that time
2026-11-24T10:00:00         that local time in the job's time zone
10:00, 10:00:30             its next occurrence in the job's time zone
now                         at once
+90s, +10m, +2h, +3d        from now
"""

import re
from datetime import UTC, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

FORMS = (
    "write 'now', a time of day like '10:00', a delay like '+90s', '+10m', '+2h' or '+3d', "
    "or an ISO 8601 time like '2026-11-24T10:00:00Z'"
)
_CLOCK_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_DELAY = re.compile(r"\+0*(\d+)([smhd])", re.ASCII)
_DATE = r"(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d)"
_CLOCK = r"(?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,]\d+)?)?)?"
_OFFSET = r"[+-](?P<ahead>\d\d)(?::?(?P<further>\d\d))?"
_ISO = re.compile(rf"{_DATE}(?:[T ]{_CLOCK}(?:Z|{_OFFSET})?)?", re.ASCII)
_ENOUGH_DIGITS = 10
"""A delay of so many digits is too long in any unit."""
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

LATEST = timedelta(days=3660)
"""Ten years: a time further away is taken for a typing error."""

LENIENCE = timedelta(seconds=60)
"""A time that is past by no more than this is taken: clients' clocks differ, requests take time."""


NO_ZONES = frozenset({"Factory"})
"""Listed, but for machines on which no zone is set."""


class BadTime(ValueError):
    """The text is not a time that a job can have. The message says what is right."""


def zone(name: str) -> ZoneInfo:
    """Find the IANA time zone *name*; UTC in any case. Raises `BadTime`.

    The names are those of the `tzdata` package. What else a machine has among its zones, such as
    localtime and right/Europe/Berlin, means another time on another machine.
    """
    names = _zone_names()
    right = names.get(_folded(name))
    if right is not None and right in (name, "UTC"):
        return ZoneInfo(right)
    example = "write one like 'Europe/Berlin' or 'UTC'"
    hint = example if right is None else f"did you mean {right!r}?"
    raise BadTime(f"timezone {_short(name)} is not an IANA time zone: {hint}")


@cache
def _zone_names() -> dict[str, str]:
    """Return the names of IANA's zones and links, by how they are compared."""
    listed = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    return {_folded(name): name for name in listed if name not in NO_ZONES}


def _folded(name: str) -> str:
    return name.lower().replace(" ", "_")


def time_of(text: str, tz: ZoneInfo, now: datetime) -> datetime:
    """Read the time, in UTC, that *text* means at *now* in time zone *tz*. Raises `BadTime`."""
    text = text.strip()
    if text == "now":
        return now
    if found := _DELAY.fullmatch(text):
        return _from_now(text, int(found[1][:_ENOUGH_DIGITS]) * _UNIT_SECONDS[found[2]], now)
    if found := _CLOCK_TIME.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in found.groups())
        return next_occurrence(hour, minute, second, tz, now)
    return _iso(text, tz, now)


def _from_now(text: str, seconds: int, now: datetime) -> datetime:
    if seconds > LATEST.total_seconds():  # before it is added: a timedelta has its own limits
        raise BadTime(f"scheduled_for {_short(text)} is more than ten years away: {FORMS}")
    return now + timedelta(seconds=seconds)


def _iso(text: str, tz: ZoneInfo, now: datetime) -> datetime:
    parsed = _read_iso(text)
    try:
        at = parsed.astimezone(UTC) if parsed.tzinfo else _local(parsed, tz, now - LENIENCE)
    except OverflowError:
        raise BadTime(f"scheduled_for {_short(text)} is out of range: {FORMS}") from None
    if at < now - LENIENCE:
        raise BadTime(
            f"scheduled_for {_short(text)} is in the past (it is {now:%Y-%m-%dT%H:%M:%SZ} now): "
            f"{FORMS}"
        )
    if at - now > LATEST:
        raise BadTime(f"scheduled_for {_short(text)} is more than ten years away: {FORMS}")
    return at


def _read_iso(text: str) -> datetime:
    # What `fromisoformat` takes differs by Python's release, and is more than ISO 8601.
    in_capitals = text.upper() if text.isascii() else text
    found = _ISO.fullmatch(in_capitals)
    if not found:
        raise BadTime(f"scheduled_for {_short(text)} is not a time: {FORMS}")
    if found["hour"] is None:
        raise BadTime(f"scheduled_for {_short(text)} has no time of day: {FORMS}")
    hours = found.group("hour", "ahead")
    parts = found.group("minute", "second", "further")  # `fromisoformat` takes +05:99
    if any(int(each or 0) > 23 for each in hours) or any(int(each or 0) > 59 for each in parts):
        limits = "hours go to 23, minutes and seconds to 59"
        raise BadTime(f"scheduled_for {_short(text)} is not a time: {FORMS} ({limits})")
    try:
        return datetime.fromisoformat(in_capitals.replace(",", "."))
    except ValueError as error:
        raise BadTime(f"scheduled_for {_short(text)} is not a time: {FORMS} ({error})") from None


def _local(wall: datetime, tz: ZoneInfo, least: datetime) -> datetime:
    """Find the first time from *least* on at which a clock in *tz* shows *wall*, or the last one.

    A time that the change to summer time skips is read with the offset from before the change (RFC
    5545): 02:30 becomes 03:30.
    """
    first, second = (wall.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in (0, 1))
    return second if first < least and second > first else first


def next_occurrence(hour: int, minute: int, second: int, tz: ZoneInfo, now: datetime) -> datetime:
    """Find the next time, after *now*, at which a wall clock in *tz* shows this.

    A time that the change to summer time skips is read with the offset from before the change:
    02:30 becomes 03:30. Of a time that occurs twice the first counts, or the second if the first is
    past.
    """
    midnight = datetime.combine(now.astimezone(tz).date(), time())
    just_after = now + timedelta(microseconds=1)
    candidates = (
        _local(midnight.replace(hour=hour, minute=minute, second=second) + day, tz, just_after)
        # Yesterday's too: where the clock skips midnight, 23:30 of yesterday is 00:30 of today.
        for day in (timedelta(days=-1), timedelta(0), timedelta(days=1))
    )
    return min(each for each in candidates if each > now)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
