"""Jobs that are chosen by what they are, for a command that acts on all of them."""

from collections.abc import Sequence
from contextlib import closing

import click

from docker_job.cli.app import App
from docker_job.cli.terminal import safe
from docker_job.documents import ListedJob
from docker_job.queries import ListFilters

OPEN = ("SCHEDULED", "RUNNING")
MOST_SHOWN = 10


def listed(app: App, filters: ListFilters) -> list[ListedJob]:
    """Return all jobs that match, newest first."""
    with closing(app.client.list(**filters)) as jobs:
        return list(jobs)


def show_chosen(jobs: Sequence[ListedJob]) -> None:
    """Name the jobs on standard error before a question about them."""
    for job in jobs[:MOST_SHOWN]:
        words = (str(job.id), job.name or "", job.docker_image, job.status.lower())
        click.echo(safe("  " + " · ".join(filter(None, words))), err=True)
    if len(jobs) > MOST_SHOWN:
        click.echo(f"  … and {len(jobs) - MOST_SHOWN} more", err=True)
