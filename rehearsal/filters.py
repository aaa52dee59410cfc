"""Filters and pages of the Describe calls, as EC2 takes them.

Values of a filter are alternatives, filters add up; `*` and `?` are wildcards; a filter that the
call does not know is an error and never ignored.
"""

import base64
import fnmatch
from collections.abc import Mapping
from typing import Any, TypeVar

from rehearsal.errors import AwsError, invalid

T = TypeVar("T")
Fields = Mapping[str, str | bool | None]


def matches(filters: list[dict[str, Any]], tags: Mapping[str, str], fields: Fields) -> bool:
    """Whether a resource with these *tags* and *fields* passes all *filters*. Raises AwsError."""
    return all(_passes(each["Name"], each.get("Values", []), tags, fields) for each in filters)


def _passes(name: str, values: list[str], tags: Mapping[str, str], fields: Fields) -> bool:
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return key in tags and _any_of(tags[key], values)
    if name == "tag-key":
        return any(_any_of(key, values) for key in tags)
    if name not in fields:
        raise invalid(f"The filter '{name}' is invalid")
    value = fields[name]
    if value is None:
        return False
    return _any_of(str(value).lower() if isinstance(value, bool) else value, values)


def _any_of(value: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns)


def paginate(
    items: list[T], params: Mapping[str, Any], *, least: int = 1, most: int = 1000
) -> tuple[list[T], str | None]:
    """The page that a call asks for, and the token of the next one; None: it is the last."""
    size = params.get("MaxResults")
    if size is not None and not least <= size <= most:
        raise invalid(
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater "
            f"than {least - 1} and not greater than {most}."
        )
    begin = 0
    if params.get("NextToken"):
        try:
            begin = int(base64.urlsafe_b64decode(params["NextToken"]))
        except ValueError as error:
            raise AwsError("InvalidNextToken", "The token is not valid") from error
    end = len(items) if size is None else begin + size
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else None
    return items[begin:end], following
