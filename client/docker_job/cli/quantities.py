"""Sizes, durations and whole numbers as they are typed: `8g`, `2h`, `1.5`. Pure.

The units are Docker's where Docker has the option: a size without a unit is in bytes.
"""

import math
import re
from collections.abc import Callable

import click

MIB, GIB = 1 << 20, 1 << 30
ALL_GPUS = -1
"""All that the instance has."""

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_SPAN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def size_in(unit: int, least: int = 1) -> Callable[[str], int]:
    """Make the reader of a size that returns it in *unit* bytes, rounded up.

    Less than *least* units is refused: `-m 512` means 512 bytes, as with Docker.
    """
    name = {MIB: "m", GIB: "g"}[unit]

    def size(text: str) -> int:
        found = _SIZE.fullmatch(text.strip())
        if found is None:
            raise click.BadParameter(f"{text!r} is no size: write a number and b, k, m or g: 8g")
        size_bytes = float(found[1]) * (1 << 10 * _POWERS[found[2].lower()])
        if size_bytes < unit * least:
            unitless = f": did you mean {found[1]}{name}?" if not found[2] else ""
            raise click.BadParameter(f"{text!r} is less than {least}{name}{unitless}")
        return math.ceil(size_bytes / unit)

    return size


def span(text: str) -> int:
    """Read a duration in seconds, at least one: `90`, `90s`, `10m`, `1h30m`, `2d`."""
    seconds = span_seconds(text)
    if seconds is None or seconds <= 0:
        raise click.BadParameter(f"{text!r} is no duration: write 90s, 10m, 2h, 1h30m or 3d")
    return math.ceil(seconds)


def span_or_zero(text: str) -> int:
    """Read a duration in seconds, which may be none at all."""
    return 0 if span_seconds(text) == 0 else span(text)


def span_seconds(text: str) -> float | None:
    """Return the seconds of a duration; None if *text* is none."""
    text = text.strip().lower()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if not _SPAN.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def cpus(text: str) -> float:
    """Read a number of CPUs, which may have a fraction as Docker's."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1024:
        raise click.BadParameter(f"{text!r} is no number of CPUs: write a whole number like 4")
    return number


def gpus(text: str) -> int:
    """Read a number of GPUs, or `ALL_GPUS`."""
    if text == "all":
        return ALL_GPUS
    if not re.fullmatch(r"[1-9][0-9]?", text):
        raise click.BadParameter(f"{text!r} is no number of GPUs: write a number, or all")
    return int(text)


def architecture(text: str) -> str:
    """Read a processor's architecture by its name, Docker's or that of a platform."""
    name = text.lower().removeprefix("linux/").partition("/")[0]
    known = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
    if name not in known:
        raise click.BadParameter(f"{text!r} is no architecture: write x86_64 or arm64")
    return known[name]
