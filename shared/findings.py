"""The finding of a check of an installation, as one line."""

from typing import Literal

from msgspec import Struct

Status = Literal["ok", "warn", "fail", "skip"]
"""`skip`: it could not be checked, or does not matter here."""


class Finding(Struct, frozen=True, kw_only=True):
    """The outcome of one check. *name* is stable; *do* is what to do about it."""

    group: str
    name: str
    status: Status
    found: str
    do: str = ""


class FindingGroup:
    """The findings of one group of checks, in their order."""

    def __init__(self, group: str) -> None:
        self._group = group
        self.all: list[Finding] = []

    def add(self, status: Status, name: str, found: str, do: str = "") -> None:
        """Note the outcome of the check *name*; *do* counts unless all is well."""
        what_to_do = "" if status == "ok" else do
        self.all.append(
            Finding(group=self._group, name=name, status=status, found=found, do=what_to_do)
        )
