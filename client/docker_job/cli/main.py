"""The command and its subcommands: one module each, imported when it is used."""

import sys
from importlib import import_module

import click

from docker_job import __version__
from docker_job.cli.app import App, run
from docker_job.cli.terminal import protect_terminal

COMMANDS = {
    "audit": "audit",
    "completion": "completion",
    "context": "contexts",
    "cost": "stats",
    "deadletters": "deadletters",
    "doctor": "doctor",
    "events": "events",
    "inspect": "inspect",
    "install-plugin": "plugin",
    "instances": "instances",
    "key": "keys",
    "login": "login",
    "logout": "login",
    "logs": "logs",
    "ps": "ps",
    "quotas": "quotas",
    "rerun": "rerun",
    "run": "run",
    "stats": "stats",
    "stop": "stop",
    "version": "version",
    "wait": "wait",
}
"""The module of `docker_job.cli.commands` that holds each command, as `<name>` with `_` for `-`."""


class Commands(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names, for help and completion."""
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import the command; None if there is none of that name."""
        if name not in COMMANDS:
            return None
        module = import_module(f"docker_job.cli.commands.{COMMANDS[name]}")
        found: click.Command = getattr(module, name.replace("-", "_"))
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="The API, in place of the context's.")
@click.option("--key-file", metavar="FILE", help="A file that holds the API key.")
@click.option("-c", "--context", metavar="NAME", help="The context to use: see context ls.")
@click.option("--insecure", is_flag=True, help="Send the key over plain HTTP to another machine.")
@click.option("--cacert", metavar="FILE", help="The authority of the API's certificate, in PEM.")
@click.option("--no-color", is_flag=True, help="Print without colours.")
@click.version_option(__version__, prog_name="docker-job")
@click.pass_obj
def group(
    app: App,
    url: str | None,
    key_file: str | None,
    context: str | None,
    cacert: str | None,
    *,
    insecure: bool,
    no_color: bool,
) -> None:
    """Run a Docker image at a time of your choice, at Spot prices."""
    app.url, app.key_file, app.context = url, key_file, context
    app.insecure, app.cacert = insecure, cacert
    app.color = False if no_color else None


def main() -> None:
    """Run `docker-job ARGS…`."""
    protect_terminal()
    sys.exit(run(group, sys.argv[1:], "docker-job"))
