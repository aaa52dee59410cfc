"""The figures of one run, their ceilings and goals."""

from typing import Literal

from msgspec import Struct


class Ceiling(Struct, frozen=True):
    """The figure to compare with: for the same work, in the same unit, of the same run.

    It is usually a bare loop's; else a peer's, an older commit's, or ours under other conditions.
    """

    name: str
    value: float


class Goal(Struct, frozen=True, kw_only=True):
    """A limit for a figure: for its value, or for its share of the ceiling.

    One that is *aside* is reported and decides nothing, since it depends on the machine too.
    """

    limit: float
    sign: Literal["≥", "≤"]
    is_ratio: bool = False
    aside: bool = False

    def subject(self, figure: "Figure") -> float | None:
        """Return the value that the goal limits; None where it was not measured."""
        return figure.ratio if self.is_ratio else figure.value

    def is_met(self, figure: "Figure") -> bool | None:
        """Return True if *figure* reaches it; None where it was not measured."""
        found = self.subject(figure)
        if found is None:
            return None
        return found >= self.limit if self.sign == "≥" else found <= self.limit


class Figure(Struct, frozen=True, kw_only=True):
    """One measured figure, identified over several runs by part and name."""

    part: str
    name: str
    value: float
    unit: str
    ceiling: Ceiling | None = None
    goals: tuple[Goal, ...] = ()
    cpu_us: dict[str, float] = {}
    """CPU time a job, in µs, by process."""
    detail: dict[str, float] = {}

    @property
    def ratio(self) -> float | None:
        """The figure divided by its ceiling."""
        return self.value / self.ceiling.value if self.ceiling and self.ceiling.value else None


def at_least(limit: float, *, aside: bool = False) -> Goal:
    """Make a goal for the figure: *limit* or more."""
    return Goal(limit=limit, sign="≥", aside=aside)


def at_most(limit: float, *, aside: bool = False) -> Goal:
    """Make a goal for the figure: *limit* or less."""
    return Goal(limit=limit, sign="≤", aside=aside)


def of_ceiling(limit: float) -> Goal:
    """Make a goal for the ratio: *limit* or more."""
    return Goal(limit=limit, sign="≥", is_ratio=True)


def at_most_of_ceiling(limit: float) -> Goal:
    """Make a goal for the ratio: *limit* or less."""
    return Goal(limit=limit, sign="≤", is_ratio=True)
