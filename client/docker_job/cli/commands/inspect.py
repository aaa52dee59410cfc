"""`docker-job inspect`: show everything about jobs."""

import json
from datetime import UTC, datetime

import click

from docker_job.cli.app import App, command
from docker_job.cli.choosing.jobs_argument import jobs_argument
from docker_job.cli.choosing.repeating import of_each
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Format, Row, line_of, table, write
from docker_job.cli.output.status_words import look
from docker_job.cli.output.timeline import LEGEND, attempt_columns, facts
from docker_job.cli.terminal import escaped_json, safe


@command(
    "inspect",
    short_help="Show everything about jobs.",
    epilog="Example: docker-job inspect --format '{{.ExitCode}}' nightly-report",
)
@jobs_argument
@format_option
@click.option("--pretty", "is_pretty", is_flag=True, help="For reading: facts, and attempts drawn.")
def inspect(
    app: App, /, jobs: tuple[str, ...], given_format: str | None, *, is_pretty: bool
) -> int:
    """Show everything about one or more jobs, by id or name, as one JSON array.

    The fields are those of GET /status: attempts with their phases, instances and costs too.
    """
    form = Format.chosen(given_format, is_json=app.json)
    found, code = of_each(jobs, lambda each: app.client.status(app.client.find(each)).raw)
    if is_pretty and not app.json:
        for row in found:
            _show(app, row)
    elif form.kind in ("template", "lines"):
        for row in found:
            write(app.out, line_of(row, [], form))
    else:
        write(app.out, escaped_json(json.dumps(found, indent=4, ensure_ascii=False)) + "\n")
    return code


def _show(app: App, job: Row) -> None:
    now = datetime.now(UTC)
    shown = facts(job, now)
    space = max(len(name) for name, _ in shown)
    for name, text in shown:
        style = look(job).colour if name == "Status" else ""
        first, *more = text.splitlines() or [""]
        app.out.print(f"{name:<{space}}  {safe(first)}", style=style, soft_wrap=True)
        for line in more:
            app.out.print(f"{'':<{space}}  {safe(line)}", soft_wrap=True)
    write(app.out, "\n")
    table(job.get("attempts") or [], attempt_columns(job), app.out)
    write(app.out, f"\n{LEGEND}\n")
