"""Environment variables and labels as they are given: `-e`, `--env-file`, `--secret`, `-l`. Pure.

The rules are Docker's: a variable without `=` is taken from the command's own environment, and left
out where it is not set there; of two values for a name the later one counts.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import click

PLACE = re.compile(r"/|arn:aws[a-z-]*:")
"""Begins the name of a parameter or secret that the instance reads itself."""


def variables(
    files: Iterable[tuple[str, str]], given: Iterable[str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of the files, each a name and its text, then of the options."""
    found: dict[str, str] = {}
    for file, text in files:
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            stripped = line.lstrip()
            if stripped and not stripped.startswith("#"):
                _add(found, stripped, environ, f"{file}:{number}")
    for each in given:
        _add(found, each, environ, "-e")
    return found


def _add(found: dict[str, str], line: str, environ: Mapping[str, str], place: str) -> None:
    name, equals, value = line.partition("=")
    if not name or re.search(r"\s", name):
        raise click.UsageError(f"{place}: {line!r} names no variable: write NAME=value or NAME")
    if equals:
        found[name] = value
    elif name in environ:
        found[name] = environ[name]


def labels(given: Iterable[str]) -> dict[str, str]:
    """Return the labels; one without `=` has an empty value, as Docker's."""
    found = {}
    for each in given:
        name, _, value = each.partition("=")
        if not name:
            raise click.UsageError(f"-l: {each!r} has no name: write NAME=value")
        found[name] = value
    return found


def secrets(
    given: Iterable[str],
    environ: Mapping[str, str],
    read_stdin: Callable[[], str],
    read_file: Callable[[str], str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the secrets by value and those by place.

    A value comes from the environment, a file or standard input: on the command line everybody on
    the machine could read it.
    """
    values: dict[str, str] = {}
    places: dict[str, str] = {}
    for each in given:
        name, equals, source = each.partition("=")
        if not name:
            raise click.UsageError(f"--secret: {each!r} has no name")
        if not equals:
            if name not in environ:
                raise click.UsageError(
                    f"--secret {name}: the environment has no {name}: set it, or write {name}=- "
                    f"(standard input), {name}=@FILE, or {name}=/the/parameter"
                )
            values[name] = environ[name]
        elif source == "-":
            values[name] = read_stdin()
        elif source.startswith("@"):
            values[name] = read_file(source[1:])
        elif PLACE.match(source):
            places[name] = source
        else:
            raise click.UsageError(
                f"--secret {name}: a value on the command line can be read by everybody on this "
                f"machine: write {name} (from the environment), {name}=- (from standard input), "
                f"{name}=@FILE, or the name or ARN of a parameter or secret"
            )
    return values, places
