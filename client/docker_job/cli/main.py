"""The command and its subcommands."""

import click

from docker_job import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="docker-job")
def main() -> None:
    """Run a Docker image at a time of your choice, at Spot prices."""
