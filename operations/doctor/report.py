"""The findings as lines for operators, or as JSON; and the exit status. Pure."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from shared.findings import Finding

OK, FAILED = 0, 1


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Write a line for each finding, aligned and by group; the last line counts them."""
    width = max((len(each.name) for each in findings), default=0)
    group = ""
    for each in sorted(findings, key=_by_group(findings)):
        if each.group != group:
            group = each.group
            yield group
        do = f"; {each.do}" if each.do else ""
        yield f"  {each.status:4}  {each.name:{width}}  {_one_line(each.found + do)}"
    yield summary(findings)


def summary(findings: Sequence[Finding]) -> str:
    """Count the findings of each status."""
    counted = Counter(each.status for each in findings)
    failed = counted["fail"]
    head = "nothing has failed" if not failed else f"{failed} failed"
    return f"{head}: {counted['ok']} ok, {counted['warn']} to note, {counted['skip']} not checked"


def as_json(findings: Sequence[Finding]) -> str:
    """Write all findings as one JSON object."""
    checks = msgspec.to_builtins(list(findings))
    return json.dumps({"ok": exit_status(findings) == OK, "checks": checks}, indent=2)


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 0, or 1 where a check has failed; notes and what was skipped do not count."""
    return FAILED if any(each.status == "fail" for each in findings) else OK


def _by_group(findings: Sequence[Finding]) -> "_Order":
    """Return a key that keeps the groups together, in the order of their first finding."""
    return _Order({each.group: None for each in findings})


class _Order:
    def __init__(self, groups: dict[str, None]) -> None:
        self._places = {group: place for place, group in enumerate(groups)}

    def __call__(self, finding: Finding) -> int:
        return self._places[finding.group]


def _one_line(text: str) -> str:
    return " ".join(text.split())
