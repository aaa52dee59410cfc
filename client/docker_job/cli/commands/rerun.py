"""`docker-job rerun`: run jobs again."""

import asyncio
import os
from typing import Any

import click

from docker_job.cli.app import App, command
from docker_job.cli.asking import confirmed
from docker_job.cli.chosen_jobs import listed, show_chosen
from docker_job.cli.filters import filter_option, filters_of
from docker_job.cli.job_fields import job_fields, merged, rounding, words
from docker_job.cli.job_options import job_options
from docker_job.cli.jobs_argument import complete_jobs
from docker_job.cli.repeating import of_each
from docker_job.documents import Job, ListedJob


@command("rerun", short_help="Run jobs again, perhaps changed.")
@job_options
@click.option("--image", help="Another image.")
@click.option("--command", metavar="TEXT", help="Another command, as in a shell: 'python -V'.")
@click.option("--failed", is_flag=True, help="All jobs that failed and were not run again yet.")
@click.option(
    "--since",
    metavar="TIME",
    default="1d",
    show_default=True,
    help="With --failed: finished since then, an age or an ISO 8601 time.",
)
@filter_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-d", "--detach", is_flag=True, help="Print the new id, and do not follow the job.")
@click.option("-q", "--quiet", is_flag=True, help="Show the container's output and nothing else.")
@click.option(
    "--idempotency-key", metavar="KEY", help="A repeat with the same KEY makes no further jobs."
)
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_jobs)
def rerun(app: App, *, jobs: tuple[str, ...], **given: Any) -> int:
    """Run each JOB, an id or a name, again: now, and as it was but for the options given here.

    Variables, labels and sizes are added to those that the job has. One job is followed as with
    run; of several the new ids are printed, in this order.
    """
    if note := rounding(given):
        click.echo(note, err=True)
    if bool(jobs) == given["failed"] or (given["given"] and not given["failed"]):
        raise click.UsageError(
            "Name the jobs, or choose them with --failed, perhaps with --filter."
        )
    fields = _fields(given)
    key = given["idempotency_key"]
    if given["failed"]:
        failed = _failed(app, given)
        if not failed:
            app.fail(f"No job failed since {given['since']} that was not run again.", code=0)
        show_chosen(failed)
        if not given["yes"]:
            confirmed(app, f"Run {_these(len(failed))} again?")
        jobs = tuple(str(each.id) for each in failed)
    elif len(jobs) == 1 and not given["detach"] and not app.json:
        return asyncio.run(_followed(app, jobs[0], fields, key, quiet=given["quiet"]))
    done, code = of_each(jobs, lambda job: _again(app, job, fields, key))
    if app.json:
        app.print_json([each.raw for each in done])
    return code


def _these(count: int) -> str:
    return "this job" if count == 1 else f"these {count} jobs"


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = job_fields(given, os.environ)
    if given["image"]:
        fields["docker_image"] = given["image"]
    if given["command"] is not None:
        fields["command"] = words(given["command"]) or None
    return fields


def _failed(app: App, given: dict[str, Any]) -> list[ListedJob]:
    """Return the jobs that failed since then, oldest first, but for those that were run again."""
    since = given["since"]
    filters = filters_of(given["given"])
    failed = listed(app, {**filters, "status": "FAILED", "since": since, "by": "finished"})
    # A job is run again after its end, so after that time too.
    again = {each.rerun_of for each in listed(app, {"since": since})} if failed else set()
    return sorted((each for each in failed if each.id not in again), key=lambda job: job.id)


def _again(app: App, job: str, fields: dict[str, Any], key: str | None) -> Job:
    job_id = app.client.find(job)
    overrides = merged(fields, app.client.status(job_id).raw) if fields else {}
    new = app.client.rerun(job_id, overrides, idempotency_key=_key(key, job_id))
    if not app.json:
        click.echo(new.id)
    return new


async def _followed(
    app: App, job: str, fields: dict[str, Any], key: str | None, *, quiet: bool
) -> int:
    from docker_job.cli.following import follow  # noqa: PLC0415 - not for --help

    async with app.async_client() as client:
        job_id = await client.find(job)
        overrides = merged(fields, (await client.status(job_id)).raw) if fields else {}
        new = await client.rerun(job_id, overrides, idempotency_key=_key(key, job_id))
        return await follow(client, new, quiet=quiet, colour=app.color)


def _key(key: str | None, job_id: int) -> str | None:
    """Make the idempotency key of one job from that of the command; None: a key of its own."""
    return f"{key}-{job_id}" if key else None
