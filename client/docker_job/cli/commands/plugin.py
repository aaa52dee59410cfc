"""`docker-job install-plugin`: makes it `docker job …`."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from docker_job.cli.app import App, command
from docker_job.config import write_private

MARK = "# Made by docker-job install-plugin; docker-job install-plugin --remove removes it."


def plugin_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where Docker's command line looks for the plugin of this user."""
    home = environ.get("DOCKER_CONFIG") or str(Path("~/.docker").expanduser())
    return Path(home) / "cli-plugins" / "docker-job"


def script_of(python: str) -> str:
    """Return the plugin. It runs this package with *python*, and no code of where it is called."""
    run = shlex.join([python, "-P", "-m", "docker_job.cli.docker_plugin"])
    return f'#!/bin/sh\n{MARK}\nexec {run} "$@"\n'


def is_ours(path: Path) -> bool:
    """Return whether the file is such a script."""
    try:
        return MARK in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@command("install-plugin")
@click.option("--remove", is_flag=True, help="Remove the plugin again.")
def install_plugin(app: App, *, remove: bool) -> None:
    """Make this command `docker job`, a plugin of Docker's."""
    path = plugin_path()
    if path.exists() and not is_ours(path):
        app.fail(
            f"{path} is another program's.", "Remove it, or go on with docker-job in its place."
        )
    try:
        said = _remove(path) if remove else _install(app, path)
    except OSError as error:
        app.fail(
            f"Cannot write {path}: {error.strerror}.",
            "DOCKER_CONFIG names another directory; docker-job works without the plugin.",
        )
    if app.json:
        app.print_json({"path": str(path), "installed": path.exists()})
    else:
        click.echo(said)


def _install(app: App, path: Path) -> str:
    if shutil.which("docker") is None:
        app.fail(
            "No docker client is installed here.",
            "Use docker-job in its place: docker-job ps is what docker job ps would be.",
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, script_of(sys.executable), mode=0o755)
    return f"Installed {path}. Try: docker job --help"


def _remove(path: Path) -> str:
    if not path.exists():
        return f"There is no plugin {path}."
    path.unlink()
    return f"Removed {path}."
