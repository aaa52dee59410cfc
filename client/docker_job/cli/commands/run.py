"""`docker-job run`: schedule a job and follow it."""

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import click

from docker_job.cli.app import App, command
from docker_job.cli.dockers_flags import docker_flags
from docker_job.cli.job_fields import job_fields, rounding
from docker_job.cli.job_options import job_options
from docker_job.cli.quantities import span

EXIT_CODES = """\b
Exit codes: the container's; besides
  124  the time limit passed
  125  the job failed without an exit code, or this command did
  130  the job was cancelled, or left to itself with Ctrl-C
"""


@command(
    "run",
    context_settings={"allow_interspersed_args": False},
    short_help="Run an image, now or later, and follow it.",
    epilog=EXIT_CODES,
)
@job_options
@docker_flags
@click.option("-d", "--detach", is_flag=True, help="Print the job's id, and do not follow it.")
@click.option("-q", "--quiet", is_flag=True, help="Show the container's output and nothing else.")
@click.option("--dry-run", is_flag=True, help="Show where it would run, and what it would cost.")
@click.option("--expected", type=span, metavar="TIME", help="With --dry-run: how long it takes.")
@click.option(
    "--idempotency-key", metavar="KEY", help="A repeat with the same KEY makes no second job."
)
@click.argument("image")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def run(app: App, *, image: str, words: tuple[str, ...], **given: Any) -> int:
    """Run IMAGE, at once or at a time of your choice, and follow it until it is over.

    The container's output is that of this command, as with docker run; what we say is on standard
    error. Options after IMAGE belong to COMMAND.

    Ctrl-C asks whether to detach or to cancel; a second one detaches, and so does the first where
    there is no terminal. A lost connection is taken up again.
    """
    if note := rounding(given):
        click.echo(note, err=True)
    job = {"docker_image": image, "scheduled_for": "now"} | job_fields(given, os.environ)
    if words:
        job["command"] = list(words)
    if given["expected"] is not None and not given["dry_run"]:
        raise click.UsageError("--expected goes with --dry-run.")
    if given["dry_run"]:
        return _plan(app, job, given["expected"])
    if given["detach"]:
        return _detached(app, job, given["idempotency_key"])
    if app.json:
        raise click.UsageError("--json goes with --detach or --dry-run: else the job prints.")
    return asyncio.run(_followed(app, job, given["idempotency_key"], quiet=given["quiet"]))


def _plan(app: App, job: dict[str, Any], expected: int | None) -> int:
    from docker_job.cli.plan_table import show_plan  # noqa: PLC0415 - slow, and rarely needed
    from docker_job.cli.render import Format  # noqa: PLC0415

    plan = app.client.plan(job if expected is None else job | {"expected_seconds": expected})
    show_plan(plan.raw, datetime.now(UTC), Format.chosen(None, is_json=app.json), app.out)
    return 0


def _detached(app: App, job: dict[str, Any], key: str | None) -> int:
    scheduled = app.client.schedule(job, idempotency_key=key)
    if app.json:
        app.print_json(scheduled.raw)
    else:
        click.echo(scheduled.id)
    return 0


async def _followed(app: App, job: dict[str, Any], key: str | None, *, quiet: bool) -> int:
    from docker_job.cli.following import follow  # noqa: PLC0415 - not for --help

    async with app.async_client() as client:
        scheduled = await client.schedule(job, idempotency_key=key)
        return await follow(client, scheduled, quiet=quiet, colour=app.color)
