"""`docker-job stats` and `docker-job cost`: figures of the jobs that finished."""

from collections.abc import Sequence
from typing import Any

import click

from docker_job.cli.app import App, command
from docker_job.cli.choosing.filters import project_option
from docker_job.cli.output.figures import NOTHING, count, duration, money
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, show

GROUPINGS = ("day", "status", "instance_type", "image", "project", "created_by", "label:")
BY_HELP = "day, status, instance_type, image, project, created_by, or label:NAME (as label:team)."


def _number(heading: str, field: str, name: str = "") -> Column:
    return Column(heading, lambda each: count(each.get(field)), is_right=True, name=name)


def _usd(heading: str, field: str) -> Column:
    return Column(heading, lambda each: money(each.get(field)), is_right=True)


def _seconds(heading: str, field: str, name: str = "") -> Column:
    return Column(heading, lambda each: duration(each.get(field)), is_right=True, name=name)


COUNTS = (
    _number("JOBS", "jobs"),
    _number("DONE", "done"),
    _number("FAILED", "failed"),
    _number("CANCELLED", "cancelled"),
    _number("TRIES", "attempts"),
    _number("INTERRUPTED", "interruptions"),
)
LATENESS = (
    _seconds("LATE", "lateness_median_seconds"),
    _seconds("LATE P95", "lateness_p95_seconds", "LateP95"),
)
MONEY = (
    _seconds("BILLED", "billed_seconds"),
    _usd("COST", "cost_usd"),
    _usd("LOST", "lost_usd"),
    _usd("SAVED", "saved_usd"),
)


def _complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [each for each in GROUPINGS if each.startswith(incomplete)]


def _options(function: Any) -> Any:
    for option in (
        click.option("--since", metavar="TIME", help="Finished since; 30 days ago by default."),
        click.option("--until", "before", metavar="TIME", help="Finished before that."),
        click.option(
            "--by",
            default="day",
            show_default=True,
            metavar="WHAT",
            help=BY_HELP,
            shell_complete=_complete,
        ),
        project_option,
        format_option,
    ):
        function = option(function)
    return function


@command(
    "stats",
    short_help="Count jobs, interruptions, lateness and cost.",
    epilog="Example: docker-job stats --since 7d --by label:team",
)
@_options
def stats(app: App, /, **options: Any) -> None:
    """Count the jobs that finished, with their interruptions, lateness and cost.

    LATE is from a job's time to its first container's start: the median, and what 95 of 100 are
    within. LOST is what attempts cost that did no work; SAVED the on-demand price less the cost.
    """
    _print(app, (*COUNTS, *LATENESS, *MONEY), **options)


@command(
    "cost",
    short_help="Show what jobs cost.",
    epilog="Example: docker-job cost --since 30d --by label:team",
)
@_options
def cost(app: App, /, **options: Any) -> None:
    """Show what the jobs that finished cost, in USD: the columns of `stats` about money.

    LOST is what attempts cost that did no work; SAVED the on-demand price less the cost.
    """
    _print(app, (COUNTS[0], *MONEY), **options)


def _print(
    app: App,
    columns: Sequence[Column],
    *,
    since: str | None,
    before: str | None,
    by: str,
    project: str | None,
    given_format: str | None,
) -> None:
    form = Format.chosen(given_format, is_json=app.json)
    answer = app.client.stats(since=since, until=before, by=by, project=project).raw
    if form.kind == "json":
        app.print_json(answer)
        return
    rows: list[Row] = list(answer.get("groups") or ())
    total = {**answer["total"], "key": "total"}
    if form.kind == "table" and form.template is None and rows:
        rows.append(total)
    heading = by.removeprefix("label:").upper().replace("_", " ")
    key = Column(heading, lambda each: each.get("key") or NOTHING, name="Key", narrowest=10)
    show(rows, (key, *columns), form, app.out)
    if form.kind == "table" and app.err.is_terminal:
        _explain(app, total, rows)


def _explain(app: App, total: Row, rows: list[Row]) -> None:
    if not rows:
        app.err.print("No job finished in this time. Longer: --since 90d", style="dim")
    unknown = total.get("unknown_costs")
    if unknown:
        app.err.print(f"The cost of {unknown:,} attempts is not known (yet).", style="dim")
