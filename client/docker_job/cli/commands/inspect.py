"""`docker-job inspect`: show everything about jobs."""

import json
from datetime import UTC, datetime

import click

from docker_job.cli.app import App, pass_app
from docker_job.cli.jobs_argument import jobs_argument, of_each
from docker_job.cli.output_options import FORMAT_HELP, FormatType
from docker_job.cli.render import Format, Row, line_of, table, write
from docker_job.cli.timeline import LEGEND, attempt_columns, facts


@click.command(epilog="Example: docker-job inspect --format '{{.ExitCode}}' nightly-report")
@jobs_argument
@click.option("--format", "given_format", type=FormatType(), help=FORMAT_HELP)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON array: the default.")
@click.option("--pretty", "is_pretty", is_flag=True, help="For reading: facts, and attempts drawn.")
@pass_app
def inspect(
    app: App, *, jobs: tuple[str, ...], given_format: str | None, is_json: bool, is_pretty: bool
) -> None:
    """Show everything about one or more JOBs, by id or name, as one JSON array.

    The fields are those of GET /status: its attempts with their phases, instances and costs too.
    """
    form = Format.chosen(given_format, is_json=is_json)
    found, failed = of_each(app, jobs, lambda job_id: app.client.status(job_id).raw)
    if is_pretty and not is_json:
        for row in found:
            _show(app, row)
    elif form.kind in ("template", "lines"):
        for row in found:
            write(app.out, line_of(row, [], form, is_document=True))
    else:
        write(app.out, json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    if failed:
        raise click.exceptions.Exit(failed)


def _show(app: App, job: Row) -> None:
    now = datetime.now(UTC)
    shown = facts(job, now)
    space = max(len(name) for name, _ in shown)
    indented = "\n" + " " * (space + 2)
    lines = (f"{name:<{space}}  {text.replace('\n', indented)}\n" for name, text in shown)
    write(app.out, "".join(lines) + "\n")
    table(job.get("attempts") or [], attempt_columns(job), app.out)
    write(app.out, f"\n{LEGEND}\n")
