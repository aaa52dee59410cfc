"""`docker-job version`: of the client, and of the API."""

import sys

import click

from docker_job import __version__
from docker_job.cli.app import App, command
from docker_job.errors import DockerJobError


@command("version")
def version(app: App) -> None:
    """Show the versions of the client and of the API."""
    python = ".".join(str(each) for each in sys.version_info[:3])
    found: dict[str, str | None] = {"client": __version__, "python": python, "url": None}
    try:
        found["url"] = app.target.url
        found["api"] = app.client.about().version
    except DockerJobError as error:
        found["api"] = None
        click.echo(error.what, err=True)
    if app.json:
        app.print_json(found)
        return
    click.echo(f"Client: {__version__} (Python {python})")
    click.echo(f"API:    {found['api'] or 'unknown'} ({found['url'] or 'no URL'})")
