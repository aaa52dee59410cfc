"""Several runs of the same figures: medians, ranges, and goals met."""

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct

from bench.report import Figure, Goal


class Spread(Struct, frozen=True):
    """The median of some values, and their range."""

    median: float
    least: float
    most: float


class Verdict(Struct, frozen=True, kw_only=True):
    """A goal, and the number of runs that met it, of those that measured it."""

    goal: Goal
    found: Spread | None
    met: int
    runs: int

    @property
    def is_met(self) -> bool | None:
        """True if more than half of the runs met it; None where no run measured it."""
        return 2 * self.met > self.runs if self.runs else None


class Summary(Struct, frozen=True, kw_only=True):
    """One figure over all runs."""

    figures: tuple[Figure, ...]

    @property
    def first(self) -> Figure:
        """The first run's figure, for the fields that are the same in all runs."""
        return self.figures[0]

    @property
    def value(self) -> Spread:
        """The spread of the figure."""
        return spread([each.value for each in self.figures])

    @property
    def ceiling(self) -> Spread | None:
        """The spread of its ceiling."""
        values = [each.ceiling.value for each in self.figures if each.ceiling is not None]
        return spread(values) if values else None

    @property
    def ceiling_name(self) -> str:
        """The name of its ceiling."""
        return next((each.ceiling.name for each in self.figures if each.ceiling), "")

    @property
    def ratio(self) -> Spread | None:
        """The spread of each run's ratio: a ratio of medians would mix the runs."""
        values = [each.ratio for each in self.figures if each.ratio is not None]
        return spread(values) if values else None

    @property
    def cpu_us(self) -> dict[str, float]:
        """The medians of CPU time a job, by process."""
        return medians(each.cpu_us for each in self.figures)

    @property
    def detail(self) -> dict[str, float]:
        """The medians of the details."""
        return medians(each.detail for each in self.figures)

    @property
    def verdicts(self) -> list[Verdict]:
        """One verdict for each goal."""
        return [_verdict(goal, self.figures) for goal in self.first.goals]


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of *values*, which are not empty."""
    return Spread(median(values), min(values), max(values))


def medians(dicts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the median of each key's values, in order of first appearance."""
    values: dict[str, list[float]] = {}
    for each in dicts:
        for key, value in each.items():
            values.setdefault(key, []).append(value)
    return {key: median(found) for key, found in values.items()}


def _verdict(goal: Goal, figures: Sequence[Figure]) -> Verdict:
    found = [value for each in figures if (value := goal.subject(each)) is not None]
    met = sum(goal.is_met(each) is True for each in figures)
    return Verdict(goal=goal, found=spread(found) if found else None, met=met, runs=len(found))


def summarize(runs: Sequence[Sequence[Figure]]) -> list[Summary]:
    """Group the figures of *runs* by part and name, in order of appearance."""
    named: dict[tuple[str, str], list[Figure]] = {}
    for figure in (figure for run in runs for figure in run):
        named.setdefault((figure.part, figure.name), []).append(figure)
    return [Summary(figures=tuple(figures)) for figures in named.values()]


def runs_with_all_met(runs: Sequence[Sequence[Figure]]) -> int:
    """Count the *runs* that met all of their measured goals that decide."""
    return sum(
        all(
            goal.is_met(figure) is not False
            for figure in run
            for goal in figure.goals
            if not goal.aside
        )
        for run in runs
    )
