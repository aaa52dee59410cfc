"""The surroundings of every command: its client, its output, its errors.

A command is a function that gets the `App`:

    @command("stop")
    @click.argument("jobs", nargs=-1)
    def stop(app: App, jobs: tuple[str, ...]) -> None:
        app.client.cancel(app.client.find(jobs[0]))

`command` adds `--json`, which sets `app.json`. An error of the client may be left to `main`: it
prints the error in two lines (what is wrong, what to do) and exits with 125, as `docker` does.
"""

from __future__ import annotations

import functools
import json as json_module
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import click

from docker_job.cli.terminal import escaped_json, safe
from docker_job.errors import DockerJobError

if TYPE_CHECKING:
    from rich.console import Console

    from docker_job import AsyncClient, Client
    from docker_job.target import Target

OWN_FAILURE = 125
USAGE = 2
INTERRUPTED = 130

TIMEOUT_SECONDS = 20.0


class Failure(Exception):
    """Ends the command: *what* is wrong and what to do, a line each, and the exit status."""

    def __init__(self, what: str, hint: str = "", code: int = OWN_FAILURE) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code


@dataclass
class App:
    """The options before the command, and what is made from them when it is needed."""

    url: str | None = None
    key_file: str | None = None
    context: str | None = None
    insecure: bool = False
    cacert: str | None = None
    color: bool | None = None
    json: bool = False

    @cached_property
    def target(self) -> Target:
        """The API, and the key."""
        from docker_job.target import find_target  # noqa: PLC0415 - --help does not need it

        return find_target(
            self.url,
            key_file=self.key_file,
            context=self.context,
            insecure=self.insecure,
            cacert=self.cacert,
        )

    @cached_property
    def client(self) -> Client:
        """The client of that API."""
        # httpx imports its own command if it can, and with it all of rich: 50 ms for nothing.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        from docker_job import Client  # noqa: PLC0415 - httpx takes a while

        return Client(target=self.target, timeout=TIMEOUT_SECONDS)

    def async_client(self) -> AsyncClient:
        """Make an asynchronous client of that API; whoever asks for it closes it."""
        from docker_job import AsyncClient  # noqa: PLC0415

        return AsyncClient(target=self.target, timeout=TIMEOUT_SECONDS)

    @cached_property
    def out(self) -> Console:
        """Standard output. Nothing in a text is taken for markup."""
        return self._console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """Standard error: everything that is not the command's result."""
        return self._console(stderr=True)

    def _console(self, *, stderr: bool) -> Console:
        from rich.console import Console  # noqa: PLC0415 - rich takes a while

        return Console(
            stderr=stderr,
            no_color=True if self.color is False else None,
            color_system=None if self.color is False else "auto",
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
        )

    def print_json(self, value: Any) -> None:
        """Print a value as one line of JSON on standard output."""
        click.echo(escaped_json(json_module.dumps(value, ensure_ascii=False, default=str)))

    def fail(self, what: str, hint: str = "", code: int = OWN_FAILURE) -> NoReturn:
        """End the command with these two lines on standard error."""
        raise Failure(what, hint, code)

    def close(self) -> None:
        """Close the client, if one was made."""
        client: Client | None = self.__dict__.get("client")
        if client is not None:
            client.close()


Function = Callable[..., Any]


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        context.ensure_object(App).json = True


def command(name: str, **settings: Any) -> Callable[[Function], click.Command]:
    """Make a function a command that gets the `App` first, and knows `--json`.

    A whole number that it returns is the exit status.
    """
    make: Callable[[Function], click.Command] = click.command(name, **settings)
    return lambda function: make(_with_app(function))


def subcommand(
    group: click.Group, name: str, **settings: Any
) -> Callable[[Function], click.Command]:
    """Make a function a command of a group: `docker-job context ls`."""

    def add(function: Function) -> click.Command:
        made = command(name, **settings)(function)
        group.add_command(made)
        return made

    return add


def _with_app(function: Function) -> Function:
    as_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_set_json,
        help="Print JSON instead of text.",
    )

    @functools.wraps(function)
    @click.pass_context
    def call(context: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return function(context.ensure_object(App), *args, **kwargs)

    return as_json(call)


def run(group: click.Group, arguments: list[str], name: str) -> int:
    """Run a command line; return the exit status. Errors are printed in two lines at most."""
    app = App()
    try:
        result = group.main(arguments, prog_name=name, standalone_mode=False, obj=app)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # `docker job ps | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1  # as click and rich do where they notice it
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (click.ClickException, Failure, DockerJobError) as error:
        return _report(error, name)
    finally:
        app.close()


def _report(error: click.ClickException | Failure | DockerJobError, name: str) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # click's since 8.2: the message is the help
        click.echo(str(error))
        return 0
    if isinstance(error, click.ClickException):
        return _say_usage(error, name)
    return _say(error.what, error.hint, error.code if isinstance(error, Failure) else OWN_FAILURE)


def _say(what: str, hint: str, code: int) -> int:
    for line in (what, hint):
        if line:
            click.echo(safe(line), err=True)
    return code


def _say_usage(error: click.ClickException, name: str) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else name
    return _say(error.format_message(), f"See '{path} --help'.", USAGE)
