"""`docker-job ps`: list jobs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from docker_job.cli.app import App, command
from docker_job.cli.choosing.chosen_jobs import OPEN
from docker_job.cli.choosing.filters import filter_option, filters_of, project_option
from docker_job.cli.output.job_table import job_columns
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Format, Row, show
from docker_job.errors import BadRequest
from docker_job.queries import ListFilters

PAGE = 1000
MOST_DRAWN = 1000
"""Rows of a table on a terminal; what is piped gets all."""

FIRST_RUN = "run python:3.13-slim python -c 'print(6*7)'"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `ps`, by the names of their parameters."""

    is_all: bool
    since: str | None
    before: str | None
    given: Sequence[str]
    project: str | None
    last: int | None
    is_quiet: bool
    is_whole: bool
    given_format: str | None
    is_watched: bool

    @property
    def filters(self) -> ListFilters:
        """The filters of the API."""
        of_project = (f"project={self.project}",) if self.project else ()
        filters = filters_of((*self.given, *of_project))
        if self.since:
            filters["since"] = self.since
        if self.before:
            filters["until"] = self.before
        if not (self.is_all or self.last or "status" in filters):
            filters["status"] = OPEN
        return filters


@command(
    "ps",
    short_help="List jobs.",
    epilog="Example: docker-job ps -a --since 24h --filter label=team=data",
)
@click.option("-a", "--all", "is_all", is_flag=True, help="Show jobs that are over too.")
@click.option("--since", metavar="TIME", help="Created since: an age (24h, 7d) or an ISO time.")
@click.option("--until", "before", metavar="TIME", help="Created before: an age or an ISO time.")
@filter_option
@project_option
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="The N newest of them all.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print ids alone.")
@click.option("--no-trunc", "is_whole", is_flag=True, help="Cut nothing to the terminal's width.")
@format_option
@click.option("-w", "--watch", "is_watched", is_flag=True, help="Draw again at each change.")
def ps(app: App, /, **options: Any) -> None:
    """List jobs, newest first: those that are not over, or with -a all.

    STATUS says in words where a job is; `docker-job inspect` says everything. A table on a
    terminal has at most the 1,000 newest jobs; a pipe gets all.
    """
    chosen = Options(**options)
    form = Format.chosen(chosen.given_format, is_json=app.json, ids=chosen.is_quiet)
    if chosen.is_watched:
        _watch(app, chosen)
        return
    is_drawn = form.kind == "table" and app.out.is_terminal
    found = listed(app, chosen.filters, chosen.last or (MOST_DRAWN if is_drawn else None))
    rows = list(found) if form.kind == "table" else found  # a million ids need no memory
    show(rows, job_columns(datetime.now(UTC)), form, app.out, is_cut=not chosen.is_whole)
    if isinstance(rows, list) and app.err.is_terminal:
        _explain(app, rows, chosen)


def listed(app: App, filters: ListFilters, most: int | None) -> Iterator[Row]:
    """Yield the documents of up to *most* jobs; all of them if it is None."""
    wanted: ListFilters = {**filters, "limit": min(most or PAGE, PAGE)}
    try:
        yield from (each.raw for each in islice(app.client.list(**wanted), most))
    except BadRequest:
        if filters.get("status") is not OPEN:
            raise
        yield from _of_older_api(app, wanted, most)


def _of_older_api(app: App, wanted: ListFilters, most: int | None) -> list[Row]:
    """Load the jobs of each status: an API of an earlier release takes one at a time."""
    found: list[Row] = []
    for status in OPEN:
        one: ListFilters = {**wanted, "status": status}
        found += [each.raw for each in islice(app.client.list(**one), most)]
    return sorted(found, key=lambda job: -int(job["id"]))[:most]


def _watch(app: App, chosen: Options) -> None:
    if not app.out.is_terminal:
        app.fail("--watch draws on a terminal.", "For a pipe there is: docker-job events --json", 2)
    from docker_job.cli.output.watching import listen, watch  # noqa: PLC0415 - slow, and rarely needed

    filters = chosen.filters
    watch(
        app.out,
        lambda: list(listed(app, filters, chosen.last or app.out.height)),
        listen(app.client, filters),
        is_cut=not chosen.is_whole,
    )


def _explain(app: App, rows: list[Row], chosen: Options) -> None:
    """Print what the table does not show: an empty one teaches."""
    is_narrowed = bool(chosen.given or chosen.project or chosen.since or chosen.before)
    if not rows and is_narrowed:
        app.err.print("No job matches.", style="dim")
    elif not rows and not chosen.is_all and app.client.page(limit=1).jobs:
        app.err.print(f"Nothing runs or waits. All jobs: {_name()} ps -a", style="dim")
    elif not rows:
        app.err.print(f"No jobs yet. Run one:\n  {_name()} {FIRST_RUN}", style="dim")
    elif len(rows) == MOST_DRAWN and chosen.last is None:
        app.err.print(f"The newest {MOST_DRAWN:,}. More: --last N, or a pipe.", style="dim")


def _name() -> str:
    """Return how the command was called: `docker-job`, or as a plugin `docker job`."""
    return click.get_current_context().find_root().info_name or "docker-job"
