"""`--filter KEY=VALUE`, as docker takes it, as filters of the API. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import click

from docker_job.queries import ListFilters

F = TypeVar("F", bound=Callable[..., Any])

KEYS = "status, label, name, image, project or q"
HELP = (
    "Only jobs that match: status=failed, label=team=data, name=NAME, image=IMAGE, project=data, "
    "or q=TEXT within id, name, image or a label. Several labels must all match; of several "
    "statuses one."
)
PROJECT_HELP = "Only jobs of this project; a key that is not admin sees those of its own alone."


def filter_option(command: F) -> F:
    """Give *command* the option `--filter`, as `given` filters."""
    return click.option(
        *("-f", "--filter", "given"), multiple=True, metavar="KEY=VALUE", help=HELP
    )(command)


def project_option(command: F) -> F:
    """Give *command* the option `--project`, as `project`."""
    return click.option("--project", metavar="NAME", help=PROJECT_HELP)(command)


def filters_of(given: Sequence[str]) -> ListFilters:
    """Return the filters of the API. Raises click.BadParameter, which says what is right."""
    several: dict[str, list[str]] = {"status": [], "label": []}
    single: dict[str, str] = {}
    for each in given:
        key, separator, value = each.partition("=")
        if not separator or not value:
            _refuse(f"{each!r} has no value: write {key or 'KEY'}=VALUE, where KEY is {KEYS}")
        if key == "status":
            several[key] += [part.strip().upper() for part in value.split(",")]
        elif key == "label":
            several[key].append(_label(value))
        elif key in single:
            _refuse(f"{key} is given twice: a job has one")
        elif key in ("name", "image", "project", "q"):
            single[key] = value
        else:
            _refuse(f"there is no {key!r} to filter by: write {KEYS}")
    found = {**{name: values for name, values in several.items() if values}, **single}
    return cast("ListFilters", found)


def _label(value: str) -> str:
    """Return `team=data` as the API takes it; `team:data`, the API's own spelling, will do too."""
    name, separator, wanted = value.partition("=")
    if separator:
        return f"{name}:{wanted}"
    if ":" in value:
        return value
    return _refuse(f"label={value} has no value: write label={value}=VALUE")


def _refuse(message: str) -> str:
    raise click.BadParameter(message, param_hint="--filter")
