"""The columns of `jobs` that hold what the client asked for, made from the declared fields."""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from services.api.jobs.fields import JobFields
from shared.postgres.pool import json_or_null

_SQL_TYPES: dict[Any, str] = {
    str: "text",
    int: "integer",
    bool: "boolean",
    datetime: "timestamptz",
}


class Column(Struct, frozen=True):
    """A column by the name of its field, and its type in SQL."""

    name: str
    sql_type: str

    @property
    def quoted(self) -> str:
        """Its name in SQL, where `user` alone means the current role."""
        return f'"{self.name}"'

    @property
    def is_json(self) -> bool:
        """Its values are JSON: lists or objects."""
        return self.sql_type == "jsonb"

    def parameter(self, number: int) -> str:
        """Parameter *number* of a statement as an array of its values; JSON comes as text."""
        return f"${number}::{'text' if self.is_json else self.sql_type}[]"

    @property
    def value(self) -> str:
        """The value as it is inserted, from a relation with a column of this name."""
        return f"{self.quoted}::jsonb" if self.is_json else self.quoted

    def values(self, jobs: Sequence[Any]) -> list[Any]:
        """Return the values of *jobs*, as `parameter` takes them."""
        found = map(attrgetter(self.name), jobs)
        if not self.is_json:
            return list(found)
        return [json_or_null(each) for each in found]


def _sql_type(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        [hint] = (each for each in get_args(hint) if each is not type(None))
    if isinstance(next(iter(get_args(hint)), None), str):  # a Literal
        return "text"
    return _SQL_TYPES.get(hint, "jsonb")


# Of the values of `secret_env` a job's row has the names only.
COLUMNS = (
    *(Column(name, _sql_type(hint)) for name, hint in get_type_hints(JobFields).items()),
    Column("secret_env", "jsonb"),
    Column("rerun_of", "bigint"),
    Column("project", "text"),
    Column("created_by", "text"),
)
NAMES = tuple(column.name for column in COLUMNS)
