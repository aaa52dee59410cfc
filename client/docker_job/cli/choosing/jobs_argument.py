"""`JOB…` on the command line: ids or names, several at once, completed from the API."""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from docker_job.cli.app import App
from docker_job.cli.terminal import safe

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

COMPLETION_SECONDS = 0.3
"""A completion that takes longer is felt: then there is none."""
COMPLETED = 50
WORD = re.compile(r"[\w.@%+/-]+")
"""A name that no shell takes for more than one word; others are to be quoted by hand."""


def jobs_argument(command: F) -> F:
    """Give *command* one or more jobs as `jobs`."""
    return click.argument(
        "jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=complete_jobs
    )(command)


def complete_jobs(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Complete ids and names of the newest jobs: what the API answers in 0.3 s, or nothing."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - rarely needed

    found: list[CompletionItem] = []
    app = ctx.find_root().ensure_object(App)
    options = ctx.find_root().params  # a completion does not call the group
    app.url, app.context = options.get("url"), options.get("context")
    app.key_file, app.insecure = options.get("key_file"), bool(options.get("insecure"))
    app.cacert = options.get("cacert")

    def ask() -> None:
        for job in client.page(limit=COMPLETED).jobs:
            label = safe(f"{job.status.lower()} {job.docker_image}")
            found.extend(
                CompletionItem(each, help=label)
                for each in (str(job.id), job.name or "")
                if WORD.fullmatch(each) and each.startswith(incomplete)
            )

    with suppress(Exception):  # a completion prints nothing but completions
        client = app.client  # its import takes a while, which is not the API's
        within(COMPLETION_SECONDS, ask)
    return found


def within(seconds: float, action: Callable[[], None]) -> None:
    """Run *action*; give up after so long, and keep silent about what goes wrong."""

    def run() -> None:
        with suppress(Exception):
            action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
