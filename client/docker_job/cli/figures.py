"""Durations, money and times as users read them. Pure: the present time is an argument."""

from datetime import datetime

NOTHING = "\N{EN DASH}"
"""Stands for a value that is not known, or that there is none of."""

MINUTE, HOUR, DAY = 60, 3600, 86_400
UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (1, "s"))
CENT, SMALLEST_SHOWN = 0.01, 0.00005


def instant(value: object) -> datetime | None:
    """Return a time of a document, which is a text of ISO 8601 or parsed already."""
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None


def duration(seconds: float | None) -> str:
    """Render a duration in its two greatest units: `2h3m`, `4m12s`, `52s`, `0.4s`."""
    if seconds is None:
        return NOTHING
    if 0 < seconds < 1:
        return f"{max(seconds, 0.1):.1f}s".replace("1.0s", "1s")
    rest, shown = max(0, int(seconds)), ""
    for position, (size, unit) in enumerate(UNITS):
        if rest >= size:
            shown = f"{rest // size}{unit}"
            if position + 1 < len(UNITS):
                below, name = UNITS[position + 1]
                minor = rest % size // below
                shown += f"{minor}{name}" if minor else ""
            return shown
    return "0s"


def rough(seconds: float) -> str:
    """Render a duration in its greatest unit: `2h`, `12m`, `40s`."""
    whole = max(0, int(seconds))
    size, unit = next(((size, unit) for size, unit in UNITS if whole >= size), UNITS[-1])
    return f"{whole // size}{unit}"


def age(at: object, now: datetime) -> str:
    """Render how long ago a time was: `40s ago`, `2 min ago`, `3h ago`, `5d ago`."""
    time = instant(at)
    if time is None:
        return NOTHING
    return f"{rough((now - time).total_seconds())} ago".replace("m ago", " min ago")


def until(at: object, now: datetime) -> str:
    """Render how far ahead a time is: `in 3h`, `now` if it has come."""
    time = instant(at)
    if time is None:
        return NOTHING
    seconds = (time - now).total_seconds()
    if seconds < 1:
        return "now"
    size = next(size for size, _ in UNITS if seconds >= size)
    return f"in {rough(seconds + size / 2)}".replace("m", " min")  # the nearest, not the last


def clock(at: object, now: datetime) -> str:
    """Render a time in the user's time zone: `14:02` today, else with its day."""
    time = instant(at)
    if time is None:
        return NOTHING
    local, today = time.astimezone(), now.astimezone()
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local:%b %d %H:%M}" if local.year == today.year else f"{local:%Y-%m-%d}"


def money(usd: float | None) -> str:
    """Render USD: three digits after the point, four below a cent."""
    if usd is None:
        return NOTHING
    if usd == 0:
        return "0"
    if 0 < usd < SMALLEST_SHOWN:
        return "<0.0001"
    if abs(usd) < CENT:
        return f"{usd:.4f}".rstrip("0")
    return f"{usd:.3f}"


def count(number: int | None) -> str:
    """Render a number of things."""
    return NOTHING if number is None else f"{number:,}"
