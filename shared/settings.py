"""Settings from the environment: one prefix, and `…_FILE` for a value kept in a file.

A service's `config.py` declares a frozen dataclass and fills it through `Settings`. An invalid
value raises `BadSetting`, which names the variable, the mistake and a valid value.

An empty value, or one of white space alone, counts as not set: compose passes an unset variable on
as an empty one, and `DOCKER_JOB_DATA_DIR=` must not mean the current directory.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final, Literal, overload

PREFIX = "DOCKER_JOB_"

EXIT_SETTING = 78
"""EX_CONFIG of sysexits.h: an operator must change a setting before a restart helps."""


FOREVER: Final = "forever"

Days = int | Literal["forever"]
"""How long something is kept: days, or `FOREVER`."""

MOST_DAYS = 36_500

SDK_PREFIXES = ("AWS_", "DOCKER_")
"""Of the variables that the AWS SDK and the Docker client read themselves, and of ours."""


def unless_empty(value: str | None) -> str | None:
    """Return *value*, or None if it is empty or white space alone."""
    return value if value and not value.isspace() else None


def remove_empty(environ: MutableMapping[str, str]) -> None:
    """Remove the empty variables of the AWS SDK and of Docker, at the start of a process.

    The SDK takes an empty `AWS_PROFILE` for the name of a profile, and has none of that name.
    """
    for name in [each for each in environ if each.startswith(SDK_PREFIXES)]:
        if unless_empty(environ[name]) is None:
            del environ[name]


class BadSetting(Exception):
    """An invalid setting. The message names the variable and a valid value."""


class Settings:
    """The settings `DOCKER_JOB_<NAME>`, or the files that `DOCKER_JOB_<NAME>_FILE` name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @overload
    def text(self, name: str, default: str) -> str: ...
    @overload
    def text(self, name: str, default: None = None) -> str | None: ...
    def text(self, name: str, default: str | None = None) -> str | None:
        """Return the value, or *default* if the variable and its file are unset or empty."""
        variable = PREFIX + name
        value = unless_empty(self._environ.get(variable))
        file = unless_empty(self._environ.get(variable + "_FILE"))
        if file is not None:
            if value is not None:
                raise BadSetting(f"{variable} and {variable}_FILE are both set: leave one out")
            try:
                value = unless_empty(Path(file).read_text(encoding="utf-8").rstrip("\n"))
            except OSError as error:
                raise BadSetting(f"{variable}_FILE names {file}: {error.strerror}") from error
            except UnicodeDecodeError:
                raise BadSetting(f"{variable}_FILE names {file}: it must be UTF-8 text") from None
        return default if value is None else value

    def required(self, name: str, example: str) -> str:
        """Return the value; a missing or empty one is an error that shows *example*."""
        value = self.text(name)
        if value is None:
            raise BadSetting(f"{PREFIX}{name} is not set: set it, for example to {example}")
        return value

    def integer(self, name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
        """Return a whole number in [*least*, *most*]."""
        number = self.number(name, default, least=least, most=most)
        if number != int(number):
            raise BadSetting(f"{PREFIX}{name} is {number}: it must be a whole number")
        return int(number)

    def number(
        self, name: str, default: float, *, least: float = 0, most: float = float(2**31 - 1)
    ) -> float:
        """Return a number in [*least*, *most*]."""
        raw = self.text(name)
        if raw is None:
            return default
        try:
            value = float(raw)
        except ValueError:
            raise BadSetting(f"{PREFIX}{name} is {raw!r}: it must be a number") from None
        if not least <= value <= most:
            raise BadSetting(f"{PREFIX}{name} is {raw}: it must be from {least:g} to {most:g}")
        return value

    def days(self, name: str) -> Days | None:
        """Return a number of days, or `FOREVER`; None: not set."""
        raw = self.text(name)
        if raw is None or raw == FOREVER:
            return None if raw is None else FOREVER
        if not raw.isascii() or not raw.isdecimal() or not 1 <= int(raw[:7]) <= MOST_DAYS:
            raise BadSetting(
                f"{PREFIX}{name} is {raw!r}: it must be a number of days from 1 to {MOST_DAYS}, or "
                f"{FOREVER}"
            )
        return int(raw)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of *choices*."""
        value = self.text(name, default)
        if value not in choices:
            raise BadSetting(f"{PREFIX}{name} is {value!r}: it must be one of {', '.join(choices)}")
        return value
