"""The summary of several runs of `make bench`: medians, ranges, ratios and goals."""

import pytest

from bench.report import Ceiling, Figure, at_least, at_most, at_most_of_ceiling, of_ceiling
from bench.summary import Spread, medians, runs_with_all_met, spread, summarize

GOALS = (of_ceiling(0.5), at_least(400, aside=True))


def figure(value: float, ceiling: float | None = None, *, name: str = "a rate") -> Figure:
    against = None if ceiling is None else Ceiling("bare", ceiling)
    return Figure(
        part="accept", name=name, value=value, unit="jobs/s", ceiling=against, goals=GOALS
    )


def test_a_spread_is_the_median_and_the_range() -> None:
    assert spread([5, 1, 9, 3, 4]) == Spread(4, 1, 9)


def test_an_even_number_of_runs_has_the_middle_between_two() -> None:
    assert spread([1, 2, 4, 9]).median == 3


def test_figures_of_one_part_and_name_are_one_figure_in_the_order_of_their_first_run() -> None:
    first = [figure(1, name="b"), figure(2, name="a")]
    second = [figure(3, name="a"), figure(4, name="b"), figure(5, name="c")]
    summaries = summarize([first, second])
    assert [each.first.name for each in summaries] == ["b", "a", "c"]
    assert [each.value.median for each in summaries] == [2.5, 2.5, 5]


def test_a_ratio_is_of_one_run_and_the_median_of_those() -> None:
    # The machine was twice as fast in the second run; medians of values by medians of ceilings
    # would say so.
    [summary] = summarize([[figure(100, 200)], [figure(300, 400)], [figure(90, 300)]])
    assert summary.ratio == Spread(0.5, 0.3, 0.75)
    assert summary.ceiling == Spread(300, 200, 400)


def test_without_a_ceiling_there_is_no_ratio_and_its_goal_is_not_measured() -> None:
    [summary] = summarize([[figure(100)], [figure(500)]])
    [of_bare, absolute] = summary.verdicts
    assert summary.ratio is None
    assert (of_bare.is_met, of_bare.found) == (None, None)
    assert (absolute.met, absolute.runs) == (1, 2)


def test_a_ceiling_of_nothing_gives_no_ratio() -> None:
    assert figure(100, 0).ratio is None


@pytest.mark.parametrize(
    ("values", "met"),
    [((50, 50, 50, 1, 1), True), ((50, 50, 1, 1, 1), False), ((50, 1), False)],
)
def test_a_goal_is_met_in_three_of_five_runs(values: tuple[float, ...], *, met: bool) -> None:
    [summary] = summarize([[figure(value, 100)] for value in values])
    assert summary.verdicts[0].is_met is met


def test_less_is_better_where_the_goal_is_a_time() -> None:
    late = Figure(
        part="due",
        name="p99",
        value=1.0,
        unit="s",
        ceiling=Ceiling("a peer", 2.0),
        goals=(at_most_of_ceiling(0.5), at_most(0.9)),
    )
    assert [goal.is_met(late) for goal in late.goals] == [True, False]


def test_runs_with_all_goals_met_leave_out_what_is_aside_or_was_not_measured() -> None:
    runs = [
        [figure(60, 100)],  # misses only what is aside
        [figure(60, 100), figure(40, 100, name="another")],
        [figure(60)],
    ]
    assert runs_with_all_met(runs) == 2


def test_medians_are_of_the_runs_that_have_the_key() -> None:
    assert medians([{"api": 3.0, "cloud": 1.0}, {"api": 1.0}, {"api": 2.0}]) == {
        "api": 2.0,
        "cloud": 1.0,
    }
