"""Questions before what cannot be undone."""

import sys

import click

from docker_job.cli.app import USAGE, App


def confirmed(app: App, question: str) -> None:
    """Ask; end the command unless the answer is yes. Without a terminal nobody can be asked."""
    if not sys.stdin.isatty():
        app.fail("Nothing was done: there is no terminal to ask on.", "Say it with -y.", USAGE)
    if not click.confirm(question, err=True):
        app.fail("Nothing was done.", code=1)
