"""Tables, JSON and templates of the command line, on a terminal and piped."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from docker_job.cli.output.job_table import job_columns
from docker_job.cli.output.plan_table import show_plan
from docker_job.cli.output.render import Column, Format, cut, fitting, show, table, width

NOW = datetime(2026, 11, 30, 14, 30, tzinfo=UTC)
COLUMNS = job_columns(NOW)


def job(job_id: int = 7, **fields: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "name": None,
        "docker_image": "python:3.13-slim",
        "labels": {"team": "data"},
        "status": "DONE",
        "phase": "done",
        "exit_code": 0,
        "finished_at": (NOW - timedelta(minutes=2)).isoformat(),
        "started_at": (NOW - timedelta(minutes=3)).isoformat(),
        "duration_seconds": 52.1,
        "attempts": 1,
        "cost_usd": 0.002,
        **fields,
    }


def printed(*rows: dict[str, Any], form: str | None = None, **options: Any) -> str:
    console = Console(file=io.StringIO(), force_terminal=False)
    show(rows, COLUMNS, Format.chosen(form, **options), console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def drawn(*rows: dict[str, Any], columns: int = 200, is_cut: bool = True, **console: Any) -> str:
    terminal = Console(
        file=io.StringIO(), force_terminal=True, width=columns, color_system="standard", **console
    )
    table(rows, COLUMNS, terminal, is_cut=is_cut)
    return terminal.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_piped_table_is_plain_whole_and_aligned() -> None:
    long = "registry.example.com/" + "x" * 120
    heading, first, second = printed(job(docker_image=long), job(218)).splitlines()
    assert heading.split() == [
        "ID",
        "NAME",
        "IMAGE",
        "STATUS",
        "STARTED",
        "DURATION",
        "TRIES",
        "COST",
    ]
    assert long in first
    assert "Exited (0) 2 min ago" in second
    assert second.index("Exited") == heading.index("STATUS") == first.index("Exited")
    assert second.endswith("52s       1      0.002")
    assert "\x1b" not in heading + first + second


def test_a_table_without_rows_is_its_heading() -> None:
    assert printed().startswith("ID  NAME  IMAGE")


def test_a_terminal_gets_shapes_and_colours_and_no_line_beyond_its_width() -> None:
    long = "registry.example.com/" + "x" * 120
    screen = drawn(job(docker_image=long, name="y" * 90), columns=100, no_color=True)
    _, line = screen.splitlines()
    assert "✓ Exited (0) 2 min ago" in line
    assert "…" in line
    plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert len(plain) <= 100
    assert "\x1b[32m" in drawn(job())
    assert "\x1b[32m" not in screen
    assert long in drawn(job(docker_image=long), columns=60, is_cut=False)


def test_what_a_name_holds_cannot_move_the_cursor_or_break_the_line() -> None:
    for text in (printed(job(name="a\x1b[2Jb\nc")), drawn(job(name="a\x1b[2Jb\nc"), no_color=True)):
        assert "a�[2Jb�c" in text
        assert text.count("\n") == 2


def test_an_older_apis_job_has_dashes_for_what_is_missing() -> None:
    old = {"id": 1, "docker_image": "alpine", "status": "RUNNING", "phase": "running", "attempt": 2}
    line = printed(old).splitlines()[1]
    assert line.split() == ["1", "–", "alpine", "Running", "–", "–", "2", "–"]


def test_wide_characters_take_two_cells() -> None:
    assert [width("ab"), width("日本"), width("e\u0301")] == [2, 4, 1]
    assert cut("日本語", 4) == "日…"
    assert width(cut("日本語", 5)) <= 5


def test_the_widest_column_that_may_be_cut_gives_way_first() -> None:
    columns = [Column("A", str), Column("B", str, narrowest=5), Column("C", str, narrowest=5)]
    assert fitting([10, 30, 12], columns, 36) == [10, 11, 11]
    assert fitting([10, 30, 12], columns, 1) == [10, 5, 5]
    main = [Column("A", str, narrowest=5), Column("B", str, narrowest=5, is_main=True)]
    assert fitting([10, 30], main, 36) == [5, 29]
    assert fitting([1, 2, 3], columns, 80) == [1, 2, 3]


def test_json_is_one_array_and_format_json_is_a_line_for_each() -> None:
    assert json.loads(printed(job(1), job(2), is_json=True)) == [job(1), job(2)]
    assert json.loads(printed(is_json=True)) == []
    lines = printed(job(1), job(2), form="json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2]


def test_quiet_prints_the_ids_alone() -> None:
    assert printed(job(1), job(2), ids=True) == "1\n2\n"


def test_a_template_finds_columns_as_they_are_shown_and_the_documents_fields() -> None:
    form = r"{{.ID}}\t{{.Status}}\t{{.State}}\t{{.Labels.team}}\t{{.ExitCode}}\t{{.Cost}}"
    assert printed(job(), form=form) == "7\tExited (0) 2 min ago\tDONE\tdata\t0\t0.002\n"


def test_a_template_for_a_table_has_headings() -> None:
    text = printed(job(), job(1234), form=r"table {{.ID}}\t{{.Labels.team}}\t{{upper .Status}}")
    assert text == (
        "ID    TEAM  STATUS\n7     data  EXITED (0) 2 MIN AGO\n1234  data  EXITED (0) 2 MIN AGO\n"
    )


PLAN: dict[str, Any] = {
    "scheduled_for": NOW.isoformat(),
    "capacity": "spot",
    "likely_start_at": (NOW + timedelta(seconds=45)).isoformat(),
    "likely_start_seconds": 45,
    "expected_seconds": 7200,
    "expected_from": "timeout_seconds",
    "prices_as_of": (NOW - timedelta(minutes=5)).isoformat(),
    "cost_usd": 0.142,
    "on_demand_cost_usd": 0.356,
    "message": None,
    "choices": [
        {
            "place": 1,
            "instance_type": "c7i.xlarge",
            "zone": "eu-west-1b",
            "market": "spot",
            "hourly_price_usd": 0.071,
            "on_demand_hourly_price_usd": 0.178,
            "cost_usd": 0.142,
            "vcpus": 4,
            "memory_mib": 8192,
            "gpus": 0,
            "architecture": "x86_64",
        }
    ],
}


def planned(plan: dict[str, Any], form: Format = Format("table")) -> str:  # noqa: B008 - frozen
    console = Console(file=io.StringIO(), force_terminal=False)
    show_plan(plan, NOW, form, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_plan_says_when_and_for_how_much_and_lists_what_is_tried_in_order() -> None:
    text = planned(PLAN)
    assert text.startswith("Nothing is scheduled: a plan. It would likely start in about 45s, at ")
    assert "It would cost 0.142 USD (0.356 on demand) for the time limit of 2h.\n" in text
    assert "Prices are 5 min old.\n" in text
    assert "table" not in text
    tabled = planned(PLAN | {"list_prices_as_of": "2026-07-20"})
    assert "All but Spot prices are from the built-in table of 2026-07-20: " in tabled
    heading, line = text.splitlines()[-2:]
    assert heading.split()[:5] == ["#", "TYPE", "ZONE", "MARKET", "USD/H"]
    assert line.split() == (
        [
            "1",
            "c7i.xlarge",
            "eu-west-1b",
            "Spot",
            "0.071",
            "0.178",
            "0.142",
            "4",
            "8GiB",
            "–",
            "x86_64",
        ]
    )


def test_a_plan_that_nothing_fits_says_why() -> None:
    text = planned({**PLAN, "choices": [], "cost_usd": None, "message": "no instance type fits: x"})
    assert text.endswith("No instance type fits: x.\n\n")


@pytest.mark.parametrize(("kind", "read"), [("json", "scheduled_for"), ("lines", "place")])
def test_a_plan_is_json_too(kind: str, read: str) -> None:
    assert read in json.loads(planned(PLAN, Format(kind)))
