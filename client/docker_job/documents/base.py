"""The base of all documents of the API."""

from dataclasses import dataclass, field
from typing import Any

FINAL = frozenset({"DONE", "FAILED", "CANCELLED"})  # the statuses that a job keeps


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document, as the API sent it."""

    raw: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)
