"""One action for several things: one that fails does not keep the others back."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from docker_job.cli.app import OWN_FAILURE
from docker_job.cli.terminal import safe
from docker_job.errors import ApiError

T = TypeVar("T")


def of_each(things: Iterable[str], action: Callable[[str], T]) -> tuple[list[T], int]:
    """Do *action* for each, also after one that failed; return the results and the exit code.

    What was wrong is printed as `main` would print it.
    """
    done, code = [], 0
    for each in things:
        try:
            done.append(action(each))
        except ApiError as error:
            code = OWN_FAILURE
            for line in (error.what, error.hint):
                if line:
                    click.echo(safe(line), err=True)
    return done, code
