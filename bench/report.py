"""Figures, what they are held against, and how they are shown."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct


class Ceiling(Struct, frozen=True):
    """A bare loop's figure for the same work, in the same unit and the same run."""

    name: str
    value: float


class Goal(Struct, frozen=True, kw_only=True):
    """What a figure is to reach: by itself, or as a share of its ceiling."""

    limit: float
    kind: Literal["at least", "at most", "of ceiling"]

    def is_met(self, figure: "Figure") -> bool:
        """Whether *figure* reaches it."""
        if self.kind == "of ceiling":
            return figure.ratio is not None and figure.ratio >= self.limit
        if self.kind == "at least":
            return figure.value >= self.limit
        return figure.value <= self.limit

    def describe(self) -> str:
        """As the table shows it."""
        sign = {"at least": "≥ ", "at most": "≤ ", "of ceiling": "ratio ≥ "}[self.kind]
        return f"{sign}{self.limit:,.6g}"


class Figure(Struct, frozen=True, kw_only=True):
    """One measured figure."""

    part: str
    name: str
    value: float
    unit: str
    ceiling: Ceiling | None = None
    goals: tuple[Goal, ...] = ()
    detail: dict[str, float] = {}

    @property
    def ratio(self) -> float | None:
        """The share of its ceiling that it reaches."""
        return self.value / self.ceiling.value if self.ceiling and self.ceiling.value else None

    @property
    def is_met(self) -> bool | None:
        """Whether it reaches its goals; None where it has none."""
        return all(goal.is_met(self) for goal in self.goals) if self.goals else None


def at_least(limit: float) -> Goal:
    """A goal for the figure itself."""
    return Goal(limit=limit, kind="at least")


def at_most(limit: float) -> Goal:
    """A goal for the figure itself."""
    return Goal(limit=limit, kind="at most")


def of_ceiling(limit: float) -> Goal:
    """A goal for the ratio."""
    return Goal(limit=limit, kind="of ceiling")


def table(figures: Sequence[Figure]) -> str:
    """A plain table, a line a figure; details follow in small."""
    rows = [("", "figure", "", "", "ceiling", "ratio", "goal", "")]
    for each in figures:
        met = {True: "met", False: "MISSED", None: ""}[each.is_met]
        ceiling = f"{each.ceiling.value:,.4g} {each.ceiling.name}" if each.ceiling else ""
        rows.append(
            (
                each.part,
                each.name,
                f"{each.value:,.4g}" if each.value < 1000 else f"{each.value:,.0f}",
                each.unit,
                ceiling,
                f"{each.ratio:.2f}" if each.ratio is not None else "",
                ", ".join(goal.describe() for goal in each.goals),
                met,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_json(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """The figures as they are kept."""
    return [
        {
            "part": each.part,
            "name": each.name,
            "value": round(each.value, 3),
            "unit": each.unit,
            "ceiling": each.ceiling,
            "ratio": None if each.ratio is None else round(each.ratio, 3),
            "goals": [goal.describe() for goal in each.goals],
            "met": each.is_met,
            "detail": {key: round(value, 3) for key, value in each.detail.items()},
        }
        for each in figures
    ]
