"""The options that describe a job, of `run` and of `rerun`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from docker_job.cli.quantities import (
    GIB,
    MIB,
    architecture,
    cpus,
    gpus,
    size_in,
    span,
    span_or_zero,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_option = click.option
OPTIONS = (
    # When, and for how long.
    _option("--at", metavar="TIME", help="Start then: 02:00, +90s, +3d, an ISO 8601 time, or now."),
    _option("--tz", metavar="ZONE", help="The time zone of --at: Europe/Berlin."),
    _option("--timeout", type=span, metavar="TIME", help="The longest time that it may run: 2h."),
    _option(
        "--retries",
        type=click.IntRange(0, 100),
        metavar="N",
        help="Run again so many times after the container failed.",
    ),
    # What it is.
    _option("--name", help="A name to find it by."),
    _option("-l", "--label", multiple=True, metavar="K=V", help="A label; may be repeated."),
    # The environment.
    _option(
        "-e", "--env", multiple=True, metavar="K=V", help="A variable; K alone takes it from here."
    ),
    _option(
        "--env-file",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        help="A file of variables, in Docker's syntax.",
    ),
    _option(
        "--secret",
        multiple=True,
        metavar="K[=…]",
        help="A variable that is kept sealed: K (from here), K=- (from standard input), K=@FILE; "
        "or read on the instance: K=/parameter, K=arn:…",
    ),
    _option(
        "--registry-auth",
        metavar="ecr|NAME",
        help="The login to the registry: ecr, or the secret that holds it.",
    ),
    # The instance.
    _option(
        "-m", "--memory", type=size_in(MIB, 6), metavar="SIZE", help="At least so much memory: 8g."
    ),
    _option(
        "--cpus", type=cpus, metavar="N", help="At least so many CPUs; a fraction is rounded up."
    ),
    _option(
        "--gpus",
        type=gpus,
        metavar="N|all",
        help="At least so many GPUs; all: those of --instance-type, without one at least one.",
    ),
    _option("--disk", type=size_in(GIB), metavar="SIZE", help="At least so large a disk: 50g."),
    _option("--arch", "--platform", type=architecture, metavar="ARCH", help="x86_64 or arm64."),
    _option(
        "--instance-type",
        multiple=True,
        metavar="TYPE",
        help="An allowed instance type; may be repeated.",
    ),
    _option("--spot", is_flag=True, help="On Spot; with --on-demand: Spot first."),
    _option("--on-demand", is_flag=True, help="On demand; with --spot: when Spot has none."),
    _option(
        "--spot-wait",
        type=span_or_zero,
        metavar="TIME",
        help="Try Spot for so long, then on demand (with --spot alone: then give up).",
    ),
    # The container.
    _option(
        "--entrypoint", metavar="PROGRAM", help="Replaces the image's entrypoint; empty: none."
    ),
    _option("-u", "--user", help="Run as this user."),
    _option("-w", "--workdir", help="The working directory."),
    _option("--shm-size", type=size_in(MIB), metavar="SIZE", help="The size of /dev/shm: 1g."),
    _option("--init/--no-init", default=None, help="Whether Docker's init is the first process."),
    _option("--read-only", is_flag=True, help="A read-only file system."),
    _option("--stop-signal", metavar="SIGNAL", help="The signal that stops it."),
    _option(
        "--stop-timeout",
        type=span_or_zero,
        metavar="TIME",
        help="From that signal to SIGKILL: 30s.",
    ),
)
"""In the order in which `--help` shows them."""


def job_options(command: _Command) -> _Command:
    """Give a command the options of a job."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
