"""The document of a job that the options of `run` and `rerun` make."""

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from docker_job.cli import environment
from docker_job.cli.quantities import ALL_GPUS

_PLAIN = {
    "at": "scheduled_for",
    "tz": "timezone",
    "timeout": "timeout_seconds",
    "retries": "retries",
    "name": "name",
    "registry_auth": "registry_auth",
    "user": "user",
    "workdir": "working_dir",
    "shm_size": "shm_size_mib",
    "init": "init",
    "stop_timeout": "stop_grace_seconds",
}
SIZES = frozenset({"vcpus", "memory_mib", "gpus"})
"""Each chooses instance types, and is not given beside them."""
_RESOURCES = {"memory": "memory_mib", "disk": "disk_gib", "arch": "architecture"}


def job_fields(given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of the options that are given, as `POST /schedule` takes them.

    Takes them out of *given*. Raises `click.UsageError`, which says what is right.
    """
    fields = {field: given[name] for name, field in _PLAIN.items() if given.get(name) is not None}
    files = [(file, _read(file)) for file in given.get("env_file", ())]
    if variables := environment.variables(files, given.get("env", ()), environ):
        fields["env_vars"] = variables
    if labels := environment.labels(given.get("label", ())):
        fields["labels"] = labels
    values, places = environment.secrets(given.get("secret", ()), environ, _stdin, _value_of)
    fields |= {"secret_env": values} if values else {}
    fields |= {"secrets": places} if places else {}
    if resources := _resources(given):
        fields["resources"] = resources
    if given.get("entrypoint") is not None:
        fields["entrypoint"] = [given["entrypoint"]] if given["entrypoint"] else []
    if given.get("read_only"):
        fields["read_only"] = True
    if given.get("stop_signal"):
        fields["stop_signal"] = _signal(given["stop_signal"])
    return fields | _capacity(given)


def merged(fields: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides of the *old* job: what is given is added to its variables, labels and sizes.

    A field of `/jobs/{id}/rerun` replaces the old job's whole value.
    """
    overrides = dict(fields)
    for name in ("env_vars", "labels", "resources", "secrets"):
        if name in overrides and old.get(name):
            overrides[name] = {**old[name], **overrides[name]}
    if "resources" in overrides:
        overrides["resources"] = _chosen_once(overrides["resources"], fields["resources"])
    if "capacity" in overrides:
        overrides.setdefault("spot_wait_seconds", None)
    return overrides


def _chosen_once(resources: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out old sizes beside new instance types, and the other way round: not both choose."""
    out: frozenset[str] = frozenset()
    if "instance_types" in given:
        out = SIZES - given.keys()
    elif SIZES & given.keys():
        out = frozenset({"instance_types"})
    return {name: value for name, value in resources.items() if name not in out}


def rounding(given: Mapping[str, Any]) -> str | None:
    """Return the note that the CPUs are rounded up, if they are."""
    number = given.get("cpus")
    if number is None or number == int(number):
        return None
    return f"--cpus {number:g} is rounded up to {math.ceil(number)}: instances have whole CPUs."


def words(command: str) -> list[str]:
    """Split a command as a shell does."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise click.UsageError(f"--command: {error}") from None


def _resources(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        field: given[name] for name, field in _RESOURCES.items() if given.get(name) is not None
    }
    if given.get("cpus") is not None:
        found["vcpus"] = math.ceil(given["cpus"])
    if types := given.get("instance_type"):
        found["instance_types"] = list(types)
    if (number := given.get("gpus")) is not None:
        # An instance of a type that is named gives all of its GPUs to the container.
        if number != ALL_GPUS:
            found["gpus"] = number
        elif not types:
            found["gpus"] = 1
    return found


def _capacity(given: Mapping[str, Any]) -> dict[str, Any]:
    spot, on_demand, wait = given.get("spot"), given.get("on_demand"), given.get("spot_wait")
    if wait is not None and on_demand and not spot:
        raise click.UsageError("--spot-wait tries Spot first: leave out --on-demand, or add --spot")
    if not (spot or on_demand) and wait is None:
        return {}
    if spot and not on_demand:
        capacity = "spot"
    else:
        capacity = "on_demand" if on_demand and not spot else "spot_then_on_demand"
    return {"capacity": capacity} | ({} if wait is None else {"spot_wait_seconds": wait})


def _signal(text: str) -> str | int:
    return int(text) if text.isdecimal() else text.upper()


def _read(file: str) -> str:
    try:
        return _stdin() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(f"--env-file {file}: it is not text in UTF-8") from None


def _value_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--secret: cannot read {file}: {error}") from None


def _stdin() -> str:
    if sys.stdin.isatty():
        click.echo("Reading from standard input; Ctrl-D ends it.", err=True)
    return sys.stdin.read().removesuffix("\n")
