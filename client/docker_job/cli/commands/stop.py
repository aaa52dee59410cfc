"""`docker-job stop`: cancel jobs."""

import click

from docker_job.cli.app import App, command
from docker_job.cli.asking import confirmed
from docker_job.cli.chosen_jobs import OPEN, listed, show_chosen
from docker_job.cli.filters import filter_option, filters_of
from docker_job.cli.jobs_argument import complete_jobs
from docker_job.cli.repeating import of_each
from docker_job.errors import Conflict

ASKED_FROM = 2
"""So many jobs are not cancelled without a question, where they were not named."""


@command("stop", short_help="Cancel jobs at any stage.")
@filter_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_jobs)
def stop(app: App, *, given: tuple[str, ...], yes: bool, jobs: tuple[str, ...]) -> int:
    """Cancel each JOB, an id or a name, or with --filter all that match and are not over.

    A container gets its stop signal, and after its grace SIGKILL. A job that is over stays as it
    is. The ids of the cancelled jobs are printed.
    """
    if bool(jobs) == bool(given):
        raise click.UsageError("Name the jobs, or choose them with --filter.")
    if given:
        chosen = listed(app, {"status": OPEN, **filters_of(given)})
        chosen = [each for each in chosen if not each.is_over]
        if not chosen:
            app.fail("No job that matches is waiting or running.", code=0)
        if not yes and len(chosen) >= ASKED_FROM:
            show_chosen(chosen)
            confirmed(app, f"Cancel these {len(chosen)} jobs?")
        jobs = tuple(str(each.id) for each in chosen)
    cancelled, code = of_each(jobs, lambda job: _cancel(app, job))
    if app.json:
        app.print_json([each for each in cancelled if each])
    return code


def _cancel(app: App, job: str) -> dict[str, object] | None:
    job_id = app.client.find(job)
    try:
        cancelled = app.client.cancel(job_id)
    except Conflict as error:
        click.echo(error.what, err=True)
        return None
    if not app.json:
        click.echo(job_id)
    return {"id": job_id, "status": cancelled.status}
