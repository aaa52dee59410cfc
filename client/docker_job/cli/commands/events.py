"""`docker-job events`: print changes of jobs as they are made."""

from collections.abc import Callable
from datetime import UTC, datetime

import click

from docker_job.cli.app import App, command
from docker_job.cli.choosing.filters import HELP, filters_of
from docker_job.cli.choosing.jobs_argument import complete_jobs
from docker_job.cli.output.figures import NOTHING, instant
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, line_of, width, write
from docker_job.cli.output.status_words import look
from docker_job.cli.terminal import safe
from docker_job.documents import Change
from docker_job.errors import DockerJobError
from docker_job.queries import ChangeFilters


def _time(change: Row) -> str:
    at = instant(change.get("at"))
    return NOTHING if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds")


COLUMNS = (
    Column("TIME", lambda each: _time(each).replace("+00:00", "Z")),
    Column("ID", lambda each: str(each["id"])),
    Column("NAME", lambda each: each.get("name") or NOTHING),
    Column("PHASE", lambda each: str(each.get("phase") or each.get("status") or NOTHING)),
    Column("REASON", lambda each: str(each.get("reason") or "")),
)
WIDTHS = (24, 4, 14, 10, 0)
"""Of the columns: a stream has no longest cell."""


@command(
    "events",
    short_help="Print changes of jobs as they come.",
    epilog="Example: docker-job events --filter label=team=data --json",
)
@click.option(
    *("-f", "--filter", "given"),
    multiple=True,
    is_flag=False,
    flag_value="",  # `events -f`, as `logs -f`: it always follows
    metavar="KEY=VALUE",
    help=f"{HELP} -f alone, as in `logs -f`, changes nothing: it always follows.",
)
@click.option(
    "--job",
    "jobs",
    multiple=True,
    metavar="JOB",
    shell_complete=complete_jobs,
    help="Only this job, by id or name; may be given several times.",
)
@click.option("--after", metavar="POSITION", help="Begin after this position of a JSON line.")
@format_option
def events(
    app: App,
    /,
    given: tuple[str, ...],
    jobs: tuple[str, ...],
    after: str | None,
    given_format: str | None,
) -> None:
    """Print each change of a job's status, attempt, phase or reason, from now on, until Ctrl-C.

    A lost connection is resumed without a lost or doubled change. A JSON line has its `position`:
    give the last one as --after to go on later. If changes after it are no longer kept, a line
    with `reset` says so: read the list again.
    """
    filters: ChangeFilters = filters_of([each for each in given if each])
    form = Format.chosen(given_format, is_json=app.json)
    ids = [app.client.find(each) for each in jobs] or None
    app.client.page(limit=1)  # an API that is not there, or refuses the key, is no lost connection
    stream = app.client.events(
        job=ids,
        after=after,
        patience_seconds=None,
        on_trouble=_notices(app),
        **filters,
    )
    for change in stream:
        if isinstance(change, Change):
            _print(app, {**change.raw, "position": change.position}, form)
        elif form.kind in ("json", "lines"):
            app.print_json({"reset": change.message, "position": change.position})
        else:
            app.err.print(f"Changes are missing: {safe(change.message)}", style="yellow")


def _print(app: App, change: Row, form: Format) -> None:
    if form.kind != "table":
        write(app.out, line_of(change, COLUMNS, form))
        app.out.file.flush()
        return
    from rich.text import Text  # noqa: PLC0415 - rich takes a while

    line = Text()
    for column, space in zip(COLUMNS, WIDTHS, strict=True):
        text = safe(column.text(change))
        if column.heading == "PHASE":
            shape = look(change)
            symbol = f"{shape.symbol} " if app.out.is_terminal else ""
            line.append(f"{symbol}{text}".ljust(space + 2), style=shape.colour)
        else:
            line.append(text + " " * max(2, space - width(text) + 2))
    line.rstrip()
    app.out.print(line, soft_wrap=True)


def _notices(app: App) -> Callable[[DockerJobError | None], None]:
    """Return what says that the connection was lost, once, and that it is there again."""
    lost: list[DockerJobError] = []

    def notice(error: DockerJobError | None) -> None:
        at = f"{datetime.now().astimezone():%H:%M:%S}"
        if error is None:
            lost.clear()
            app.err.print(f"{at} connected again: no change is missing", style="dim")
        elif not lost:
            lost.append(error)
            app.err.print(f"{at} {error.what} Trying again …", style="yellow")

    return notice
