"""Flags of `docker run` that a job cannot have: they are refused with the reason."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

NO_INPUT = "a job runs on its own: it has no terminal and no standard input"
NO_MACHINE = "a job runs on an instance of its own, which has no files of this machine"
NO_NETWORK = "a job's ports and network cannot be chosen"
NO_RIGHTS = "a job cannot get more rights than its image has"

SWITCHES = {
    ("-i", "--interactive"): NO_INPUT,
    ("-t", "--tty"): NO_INPUT,
    ("-P", "--publish-all"): NO_NETWORK,
    ("--privileged",): NO_RIGHTS,
}
VALUES = {
    ("-v", "--volume"): NO_MACHINE,
    ("--mount",): NO_MACHINE,
    ("--device",): NO_MACHINE,
    ("-p", "--publish"): NO_NETWORK,
    ("--network", "--net"): NO_NETWORK,
    ("--cap-add",): NO_RIGHTS,
    ("--restart",): "a job runs once: see --retries",
}


def docker_flags(command: _Command) -> _Command:
    """Give a command the flags that are refused, and `--rm`, which every job has."""
    for names, reason in SWITCHES.items():
        command = _refused(names, reason, is_flag=True)(command)
    for names, reason in VALUES.items():
        command = _refused(names, reason, multiple=True)(command)
    return click.option("--rm", is_flag=True, hidden=True, expose_value=False)(command)


def _refused(names: Any, reason: str, **more: Any) -> Callable[[_Command], _Command]:
    def refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{parameter.opts[0]}: {reason}.", context)

    return click.option(*names, hidden=True, expose_value=False, callback=refuse, **more)
