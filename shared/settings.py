"""Settings from the environment: one prefix, and `…_FILE` for whatever is better kept in a file.

A service's `config.py` declares a frozen dataclass and fills it through `Settings`. A value that
cannot be used raises `BadSetting`, which names the variable, what is wrong and what would be right.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import overload

PREFIX = "DOCKER_JOB_"

EXIT_SETTING = 78
"""EX_CONFIG of sysexits.h: an operator must change something before a restart helps."""


class BadSetting(Exception):
    """A setting cannot be used. The message names the variable and what would be right."""


class Settings:
    """Reads `DOCKER_JOB_<NAME>`, or the file that `DOCKER_JOB_<NAME>_FILE` names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @overload
    def text(self, name: str, default: str) -> str: ...
    @overload
    def text(self, name: str, default: None = None) -> str | None: ...
    def text(self, name: str, default: str | None = None) -> str | None:
        """The value, or *default* where neither the variable nor its file is set."""
        variable = PREFIX + name
        file = self._environ.get(variable + "_FILE")
        if file:  # compose passes what is not set as empty
            if variable in self._environ:
                raise BadSetting(f"{variable} and {variable}_FILE are both set: leave one out")
            try:
                return Path(file).read_text(encoding="utf-8").rstrip("\n")
            except OSError as error:
                raise BadSetting(f"{variable}_FILE names {file}: {error.strerror}") from error
            except UnicodeDecodeError:
                raise BadSetting(f"{variable}_FILE names {file}: it must be UTF-8 text") from None
        return self._environ.get(variable, default)

    def required(self, name: str, example: str) -> str:
        """The value; missing or empty is an error that shows *example*."""
        value = self.text(name)
        if not value:
            raise BadSetting(f"{PREFIX}{name} is not set: set it, for example to {example}")
        return value

    def integer(self, name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
        """A whole number in [*least*, *most*]."""
        number = self.number(name, default, least=least, most=most)
        if number != int(number):
            raise BadSetting(f"{PREFIX}{name} is {number}: it must be a whole number")
        return int(number)

    def number(
        self, name: str, default: float, *, least: float = 0, most: float = float(2**31 - 1)
    ) -> float:
        """A number in [*least*, *most*]."""
        raw = self.text(name)
        if raw is None or raw == "":
            return default
        try:
            value = float(raw)
        except ValueError:
            raise BadSetting(f"{PREFIX}{name} is {raw!r}: it must be a number") from None
        if not least <= value <= most:
            raise BadSetting(f"{PREFIX}{name} is {raw}: it must be from {least:g} to {most:g}")
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """One of *choices*."""
        value = self.text(name) or default
        if value not in choices:
            raise BadSetting(f"{PREFIX}{name} is {value!r}: it must be one of {', '.join(choices)}")
        return value
