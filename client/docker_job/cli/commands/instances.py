"""`docker-job instances`: list the instances that exist now."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from docker_job.cli.app import App, command
from docker_job.cli.choosing.filters import project_option
from docker_job.cli.output.figures import NOTHING, clock, count, duration, instant, money
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, show
from docker_job.cli.output.status_words import LOOKS, Look


@command(
    "instances",
    short_help="List the instances that exist now.",
    epilog="Example: docker-job instances --format '{{.Instance}} {{.Job}}'",
)
@project_option
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print instance ids alone.")
@click.option("--no-trunc", "is_whole", is_flag=True, help="Cut nothing to the terminal's width.")
@format_option
def instances(
    app: App,
    /,
    project: str | None,
    given_format: str | None,
    *,
    is_quiet: bool,
    is_whole: bool,
) -> None:
    """List the instances that exist now, oldest first: since when, for which job, at what price."""
    form = Format.chosen(given_format, is_json=app.json, ids=is_quiet)
    rows = [each.raw for each in app.client.instances(project=project)]
    columns = instance_columns(datetime.now(UTC))
    show(rows, columns, form, app.out, is_cut=not is_whole, key="instance_id")
    if form.kind == "table" and not rows and app.err.is_terminal:
        app.err.print("No instance runs: nothing is paid for now.", style="dim")


def instance_columns(now: datetime) -> Sequence[Column]:
    """Return the columns, as they are shown at *now*."""
    return (
        Column("INSTANCE", lambda each: str(each["instance_id"]), narrowest=12),
        Column("TYPE", lambda each: each.get("instance_type") or NOTHING),
        Column("ZONE", lambda each: each.get("zone") or NOTHING),
        Column("MARKET", _market),
        Column("SINCE", lambda each: clock(each.get("since"), now)),
        Column("UP", lambda each: _up(each, now)),
        Column("JOB", lambda each: str(each.get("job_id") or NOTHING)),
        Column("NAME", lambda each: each.get("job_name") or NOTHING, narrowest=8),
        Column("TRY", lambda each: count(each.get("attempt"))),
        Column(
            "PHASE",
            lambda each: str(each.get("phase") or NOTHING),
            style=lambda each: _look(each).colour,
            symbol=lambda each: _look(each).symbol,
        ),
        Column("USD/H", lambda each: money(each.get("hourly_price_usd")), name="Price"),
        Column("COST", lambda each: money(each.get("cost_so_far_usd"))),
    )


def _market(each: Row) -> str:
    return {"spot": "Spot", "on-demand": "on demand"}.get(str(each.get("market")), NOTHING)


def _up(each: Row, now: datetime) -> str:
    since = instant(each.get("since"))
    return NOTHING if since is None else duration(max(0.0, (now - since).total_seconds()))


def _look(each: Row) -> Look:
    return LOOKS.get(str(each.get("phase")), LOOKS["waiting"])
