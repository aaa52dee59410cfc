"""Figures of one run, and what they are held against."""

from typing import Literal

from msgspec import Struct


class Ceiling(Struct, frozen=True):
    """What a figure is held against: a figure for the same work, in its unit, of the same run.

    A bare loop's, as a rule; a peer's, an older commit's, or our own under other conditions.
    """

    name: str
    value: float


class Goal(Struct, frozen=True, kw_only=True):
    """What a figure is to reach: by itself, or as a share of its ceiling.

    One that is *aside* is told and decides nothing: it is the machine's as much as ours.
    """

    limit: float
    sign: Literal["≥", "≤"]
    is_ratio: bool = False
    aside: bool = False

    def subject(self, figure: "Figure") -> float | None:
        """What of *figure* it is about; None where that was not measured."""
        return figure.ratio if self.is_ratio else figure.value

    def is_met(self, figure: "Figure") -> bool | None:
        """Whether *figure* reaches it; None where it was not measured."""
        found = self.subject(figure)
        if found is None:
            return None
        return found >= self.limit if self.sign == "≥" else found <= self.limit


class Figure(Struct, frozen=True, kw_only=True):
    """One measured figure. Those of the same part and name in several runs are one figure's."""

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
        """The share of its ceiling that it reaches."""
        return self.value / self.ceiling.value if self.ceiling and self.ceiling.value else None


def at_least(limit: float, *, aside: bool = False) -> Goal:
    """A goal for the figure itself."""
    return Goal(limit=limit, sign="≥", aside=aside)


def at_most(limit: float, *, aside: bool = False) -> Goal:
    """A goal for the figure itself."""
    return Goal(limit=limit, sign="≤", aside=aside)


def of_ceiling(limit: float) -> Goal:
    """A goal for the ratio: *limit* or more."""
    return Goal(limit=limit, sign="≥", is_ratio=True)


def at_most_of_ceiling(limit: float) -> Goal:
    """A goal for the ratio, where less is better."""
    return Goal(limit=limit, sign="≤", is_ratio=True)
