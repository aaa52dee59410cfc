"""Filters and pages of the Describe calls, in EC2's form.

An item must pass every filter, by one of the filter's values; `*` and `?` are wildcards; an unknown
filter is an error, never ignored.
"""

import base64
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fake_aws.errors import AwsError, invalid

T = TypeVar("T")
Fields = Mapping[str, Callable[[T], str | None]]
"""The filters that a call has besides tags, each with the field that it reads."""


def select(
    items: Iterable[T],
    params: Mapping[str, Any],
    fields: Fields[T],
    tags: Callable[[T], Mapping[str, str]] = lambda _: {},
) -> list[T]:
    """Return the *items* that pass all filters of a call. Raises AwsError."""
    filters = params.get("Filters", [])
    for each in filters:
        name = each["Name"]
        if not (name.startswith("tag:") or name == "tag-key" or name in fields):
            raise invalid(f"The filter '{name}' is invalid")

    def passes(item: T, name: str, values: list[str]) -> bool:
        if name.startswith("tag:"):
            value = tags(item).get(name.removeprefix("tag:"))
        elif name == "tag-key":
            return any(_any_of(key, values) for key in tags(item))
        else:
            value = fields[name](item)
        return value is not None and _any_of(value, values)

    return [
        item
        for item in items
        if all(passes(item, each["Name"], each.get("Values", [])) for each in filters)
    ]


def _any_of(value: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns)


def paginate(
    items: list[T], params: Mapping[str, Any], *, least: int = 1, most: int = 1000
) -> tuple[list[T], str | None]:
    """Return the page that a call asks for and the next page's token; None: it is the last."""
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
