"""`docker-job quotas`: show what may run at once and cost a day, and what is used of that."""

from collections.abc import Mapping
from typing import Any

import click

from docker_job.cli.app import App, command
from docker_job.cli.output.figures import NOTHING, count, money
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, show


def _whole(heading: str, field: str) -> Column:
    return Column(heading, lambda each: _of(each.get(field), count), is_right=True)


COLUMNS = (
    Column("OF", lambda each: str(each["key"] or "deployment")),
    Column("NAME", lambda each: each.get("name") or NOTHING, narrowest=8),
    _whole("JOBS", "jobs"),
    _whole("INSTANCES", "instances"),
    _whole("VCPUS", "vcpus"),
    Column(
        "USD TODAY",
        lambda each: _of(each.get("usd_per_day"), money),
        is_right=True,
        name="UsdToday",
    ),
)


@command(
    "quotas",
    short_help="Show what may run at once and cost a day, and what is used.",
    epilog="Example: docker-job quotas --format '{{.Of}} {{.UsdToday}}'",
)
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print the prefixes of keys alone.")
@format_option
def quotas(app: App, /, given_format: str | None, *, is_quiet: bool) -> None:
    """Show the quotas of your API key, and as an admin those of the deployment and of each key.

    Jobs, instances and vCPUs are those of now. Dollars are those of this UTC day: what is spent,
    and what running instances may still cost until their time limit or the day's end.
    """
    form = Format.chosen(given_format, is_json=app.json, ids=is_quiet)
    answer = app.client.quotas()
    rows: list[Row] = [{"key": None, **answer.deployment}] if answer.deployment else []
    rows += answer.keys
    show(rows, COLUMNS, form, app.out, key="key")
    if form.kind == "table" and app.err.is_terminal and answer.until is not None:
        app.err.print(
            f"The dollars are those until {answer.until:%Y-%m-%d %H:%M} UTC.", style="dim"
        )


def _of(figure: Mapping[str, Any] | None, words: Any) -> str:
    """Render what is used of a quota, or that there is none."""
    if not figure:
        return NOTHING
    used, limit = words(figure.get("used")), figure.get("limit")
    return f"{used}, no limit" if limit is None else f"{used} of {limit:,g}"
