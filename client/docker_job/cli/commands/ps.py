"""`docker-job ps`: list jobs."""

from datetime import UTC, datetime
from itertools import islice

import click

from docker_job.cli.app import App, pass_app
from docker_job.cli.filters import filter_option, filters_of
from docker_job.cli.job_table import job_columns
from docker_job.cli.output_options import output_options
from docker_job.cli.render import Format, Row, show
from docker_job.errors import BadRequest
from docker_job.queries import ListFilters

OPEN = ("SCHEDULED", "RUNNING")
MOST_DRAWN = 1000
"""Rows of a table on a terminal; what is piped gets all."""

FIRST_RUN = "docker-job run python:3.13-slim python -c 'print(6*7)'"


@click.command(epilog="Example: docker-job ps -a --since 24h --filter label=team=data")
@click.option("-a", "--all", "is_all", is_flag=True, help="Show jobs that are over too.")
@click.option("--since", metavar="TIME", help="Created since: an age (24h, 7d) or an ISO time.")
@click.option("--until", "before", metavar="TIME", help="Created before: an age or an ISO time.")
@filter_option
@click.option(
    "-n", "--last", type=click.IntRange(1), metavar="N", help="The N newest, of any status."
)
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print ids alone.")
@click.option("--no-trunc", "is_whole", is_flag=True, help="Cut nothing to the terminal's width.")
@output_options
@click.option("-w", "--watch", "is_watched", is_flag=True, help="Draw again at each change.")
@pass_app
def ps(
    app: App,
    *,
    is_all: bool,
    since: str | None,
    before: str | None,
    given: tuple[str, ...],
    last: int | None,
    is_quiet: bool,
    is_whole: bool,
    given_format: str | None,
    is_json: bool,
    is_watched: bool,
) -> None:
    """List jobs, newest first: those that are not over, or with -a all.

    STATUS says in words where a job is; `inspect` says everything.
    """
    filters = filters_of(given)
    if since:
        filters["since"] = since
    if before:
        filters["until"] = before
    if not (is_all or last or "status" in filters):
        filters["status"] = OPEN
    form = Format.chosen(given_format, is_json=is_json, ids=is_quiet)
    if is_watched:
        from docker_job.cli.watching import watch  # noqa: PLC0415 - slow, and rarely needed

        watch(app, filters, last, is_cut=not is_whole)
        return
    is_drawn = form.kind == "table" and app.out.is_terminal
    rows = listed(app, filters, last or (MOST_DRAWN if is_drawn else None))
    show(rows, job_columns(datetime.now(UTC)), form, app.out, is_cut=not is_whole)
    if form.kind == "table":
        _explain(app, rows, filters, last)


def listed(app: App, filters: ListFilters, most: int | None) -> list[Row]:
    """Load the documents of up to *most* jobs; all of them if it is None."""
    wanted: ListFilters = {**filters, "limit": min(most or 1000, 1000)}
    try:
        return [each.raw for each in islice(app.client.list(**wanted), most)]
    except BadRequest:
        if filters.get("status") is not OPEN:
            raise
        # An API of an earlier release takes one status: its answers are put together here.
        found = [
            each.raw
            for status in OPEN
            for each in islice(app.client.list(**{**wanted, "status": status}), most)
        ]
        return sorted(found, key=lambda job: -job["id"])[:most]


def _explain(app: App, rows: list[Row], filters: ListFilters, last: int | None) -> None:
    """Say what the table does not show. A person reads it; a pipe does not."""
    if not app.err.is_terminal:
        return
    if not rows and set(filters) <= {"status"} and filters.get("status", OPEN) is OPEN:
        if app.client.page(limit=1).jobs:
            app.note("Nothing runs or waits. All jobs: docker-job ps -a")
        else:
            app.note(f"No jobs yet. Run one:\n  {FIRST_RUN}")
    elif not rows:
        app.note("No job matches.")
    elif len(rows) == MOST_DRAWN and last is None:
        app.note(f"The newest {MOST_DRAWN:,}. More: --last N, or a pipe, which gets all.")
