"""`docker job …`: the command as a plugin of Docker's command line.

Docker calls the plugin `docker-job` in four ways: with `docker-cli-plugin-metadata`, to learn what
it is; as `docker-job [Docker's own options] job ARGS…`, to run it; as `docker-job help job ARGS…`;
and as `docker-job __complete job ARGS…`, to complete a command line. See
https://github.com/docker/cli/tree/master/cli-plugins and, for completion,
https://github.com/spf13/cobra (`ShellCompDirective`).
"""

import json
import sys

import click
from click.shell_completion import ShellComplete

from docker_job import __version__
from docker_job.cli.app import run
from docker_job.cli.main import group
from docker_job.cli.terminal import protect_terminal

METADATA = {
    "SchemaVersion": "0.1.0",
    "Vendor": "docker-job contributors",
    "Version": __version__,
    "ShortDescription": "Run a job at a time of your choice, at Spot prices",
}
NO_FILES = 4
"""Cobra's directive: complete nothing but these, no files."""


def main() -> None:
    """Answer Docker."""
    arguments = sys.argv[1:]
    if arguments == ["docker-cli-plugin-metadata"]:
        click.echo(json.dumps(METADATA))
        return
    before, job, rest = _split(arguments)
    if job and before[:1] in (["__complete"], ["__completeNoDesc"]):
        complete(rest)
        return
    if job and before == ["help"]:
        rest = [*rest, "--help"]
    protect_terminal()
    sys.exit(run(group, rest, "docker job"))


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    """Return what is before and behind `job`, and whether it is there."""
    if "job" not in arguments:
        return [], False, arguments
    place = arguments.index("job")
    return arguments[:place], True, arguments[place + 1 :]


def complete(arguments: list[str]) -> None:
    """Print what the last of *arguments* may become, in the words that Docker understands."""
    *before, incomplete = arguments or [""]
    completion = ShellComplete(group, {}, "docker job", "_DOCKER_JOB_COMPLETE")
    for item in completion.get_completions(before, incomplete):
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help or ''}".rstrip("\t"))
    click.echo(f":{NO_FILES}")


if __name__ == "__main__":
    main()
