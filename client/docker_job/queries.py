"""Parameters of a request, from keyword arguments."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias, TypedDict

Value: TypeAlias = str | int | bool | datetime | None
Many: TypeAlias = str | Iterable[str]


class ChangeFilters(TypedDict, total=False):
    """Filters of jobs. *status* and *label* may be several; labels are `name:value`."""

    status: Many | None
    label: Many | Mapping[str, str] | None
    name: str | None
    image: str | None
    q: str | None
    project: str | None


class ListFilters(ChangeFilters, total=False):
    """Filters of a list.

    *since*, *until*: a time, or an age like `24h`; *by*: `created` or `finished`.
    """

    since: str | datetime | None
    until: str | datetime | None
    by: str | None
    limit: int | None
    cursor: str | None


class StatsFilters(TypedDict, total=False):
    """The time and the grouping of statistics: `day`, `status`, `label:<name>`, `project`, …."""

    since: str | datetime | None
    until: str | datetime | None
    by: str | None
    project: str | None


class AuditFilters(TypedDict, total=False):
    """Filters of the audit trail. *key* is a prefix; *since*, *until*: a time, or an age."""

    job: int | None
    key: str | None
    project: str | None
    action: str | None
    since: str | datetime | None
    until: str | datetime | None


def encode(parameters: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the parameters that are given; several values are a parameter given several times."""
    found: list[tuple[str, str]] = []
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            found += [(name, f"{key}:{each}") for key, each in value.items()]
        elif isinstance(value, Iterable) and not isinstance(value, str):
            found += [(name, _text(each)) for each in value]
        elif value is not None:
            found.append((name, _text(value)))
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
