"""The printed tables and the JSON of `make bench`."""

import msgspec

from bench.report import Ceiling, Figure, at_least, of_ceiling
from bench.show import as_json, cpu_table, figures_table, goal_lines
from bench.summary import Summary, summarize


def runs(*values: float, ceiling: float | None = 100) -> list[Summary]:
    return summarize(
        [
            [
                Figure(
                    part="accept",
                    name="one at a time",
                    value=value,
                    unit="jobs/s",
                    ceiling=None if ceiling is None else Ceiling("bare", ceiling),
                    goals=(at_least(2380, aside=True), of_ceiling(0.5)),
                    cpu_us={"api": value, "Postgres": 10},
                )
            ]
            for value in values
        ]
    )


def test_the_table_shows_the_median_its_range_and_the_ratio() -> None:
    [_, line] = figures_table(runs(40, 60, 50)).splitlines()
    assert line.split("  ")[0] == "accept"
    assert "50 (40 to 60)" in line
    assert "0.50 (0.40 to 0.60)" in line
    assert line.endswith("bare, 100")


def test_one_run_has_no_range() -> None:
    [_, line] = figures_table(runs(50)).splitlines()
    assert "(" not in line


def test_goals_that_decide_come_before_those_aside() -> None:
    assert goal_lines(runs(40, 60, 50)) == [
        "met: accept: one at a time: ratio ≥ 0.5 of bare: 0.50 (0.40 to 0.60), in 2 of 3",
        "NOT MET: accept: one at a time: ≥ 2,380 jobs/s: 50 (40 to 60), in 0 of 3 (aside)",
    ]


def test_a_goal_beside_something_that_was_not_run_says_so() -> None:
    line = goal_lines(runs(50, ceiling=None))[0]
    assert line == "not measured: accept: one at a time: ratio ≥ 0.5 of a ceiling that was not run"


def test_cpu_time_has_a_column_a_process_and_their_sum() -> None:
    [head, line] = cpu_table(runs(40, 60, 50)).splitlines()
    assert head.split()[-3:] == ["all", "api", "Postgres"]
    assert line.split()[-3:] == ["60", "50", "10"]


def test_without_cpu_times_there_is_no_table_of_them() -> None:
    figure = Figure(part="due", name="p99", value=1, unit="s")
    assert cpu_table(summarize([[figure]])) == ""


def test_the_kept_figures_are_json_with_every_run() -> None:
    [kept] = msgspec.json.decode(msgspec.json.encode(as_json(runs(40, 60, 50))))
    assert kept["values"] == [40, 60, 50]
    assert kept["ratios"] == [0.4, 0.6, 0.5]
    assert kept["ratio"] == {"median": 0.5, "least": 0.4, "most": 0.6}
    assert kept["cpu_us_a_job"] == {"api": 50, "Postgres": 10}


def test_a_figure_without_a_ceiling_is_kept_with_none() -> None:
    [kept] = msgspec.json.decode(msgspec.json.encode(as_json(runs(40, ceiling=None))))
    assert (kept["ceiling"], kept["ceiling_value"], kept["ratio"]) == (None, None, None)
