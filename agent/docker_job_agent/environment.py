"""Configuration: read from the environment, most of which no child inherits."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from .errors import ConfigError

PREFIX = "DOCKER_JOB_"
EC2_METADATA_URL = "http://169.254.169.254"


class SharedEngine(NamedTuple):
    """Settings of an engine that other jobs, and its owner, use too."""

    network_pool: str = "10.213.0.0/16"  # the subnets of jobs' networks come from it
    engine_disk: str = ""  # a path on the disk of its images; empty: as the engine itself says
    images_disk_percent: float = 85.0  # so full, images that jobs brought are removed…
    images_keep_hours: float = 24.0  # …if none has used them for this long


class Config(NamedTuple):
    """Configuration from the environment, without the bootstrap token, which is a secret."""

    api_url: str
    job_id: int  # 0 until the claim's answer names it, where the instance's role is its identity
    attempt: int
    instance_id: str
    deployment: str
    runtime: str
    metadata_url: str | None
    terminate_grace_seconds: float
    identity: str = "token"
    shared_engine: SharedEngine | None = None  # None: the machine is this instance's own
    api_ca: str = ""  # PEM of the one authority that is trusted for the API; empty: the system's

    @property
    def owns_machine(self) -> bool:
        """Return whether the machine ends with the instance; else others use its engine too."""
        return self.shared_engine is None


class Bounds(NamedTuple):
    """Configuration that must hold even if the rest is broken."""

    max_lifetime_seconds: float
    power_off: bool
    instance_dir: str | None


def value_of(environment: Mapping[str, str], name: str, default: str = "") -> str:
    """Return a variable's value, or *default* if it is unset, empty or white space alone."""
    value = environment.get(name, "")
    return value if value.strip() else default


def take_bootstrap_token(environment: MutableMapping[str, str]) -> str:
    """Remove the bootstrap token from `environment`, so no child inherits it, and return it."""
    return environment.pop(PREFIX + "BOOTSTRAP_TOKEN", "")


def read_bounds(environment: Mapping[str, str]) -> Bounds:
    """Read lifetime, power-off mode and directory; a broken lifetime becomes one hour."""
    try:
        lifetime = float(environment[PREFIX + "MAX_LIFETIME_SECONDS"])
    except (KeyError, ValueError):
        lifetime = math.nan
    if not (lifetime > 0 and math.isfinite(lifetime)):
        lifetime = 3600.0
    power_off = value_of(environment, PREFIX + "POWER_OFF", "exit") == "shutdown"
    return Bounds(lifetime, power_off, value_of(environment, PREFIX + "INSTANCE_DIR") or None)


def read_config(environment: Mapping[str, str]) -> Config:
    """Read the rest of the configuration; raises ConfigError that names the variable."""

    def required(name: str) -> str:
        value = value_of(environment, PREFIX + name)
        if not value:
            raise ConfigError(f"{PREFIX}{name} is not set")
        return value

    def number(name: str, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise ConfigError(f"{PREFIX}{name} is not a number") from None

    runtime = value_of(environment, PREFIX + "RUNTIME", "auto")
    if runtime not in ("docker", "simulated", "auto"):
        raise ConfigError(f"{PREFIX}RUNTIME is none of docker, simulated, auto")
    required("MAX_LIFETIME_SECONDS")
    identity = value_of(environment, PREFIX + "IDENTITY", "token")
    if identity not in ("token", "sts"):
        raise ConfigError(f"{PREFIX}IDENTITY is none of token, sts")
    named = identity == "token"  # else the claim's answer names the job, attempt and instance
    grace = value_of(environment, PREFIX + "TERMINATE_GRACE_SECONDS", "5")
    return Config(
        api_url=read_api_url(required("API_URL")),
        job_id=int(number("JOB_ID", required("JOB_ID"))) if named else 0,
        attempt=int(number("ATTEMPT", required("ATTEMPT"))) if named else 0,
        instance_id=required("INSTANCE_ID") if named else "",
        deployment=value_of(environment, PREFIX + "DEPLOYMENT")
        if named
        else required("DEPLOYMENT"),
        runtime=runtime,
        metadata_url=read_metadata_url(environment),
        terminate_grace_seconds=number("TERMINATE_GRACE_SECONDS", grace),
        identity=identity,
        shared_engine=read_shared_engine(environment),
        api_ca=read_api_ca(environment),
    )


def read_shared_engine(environment: Mapping[str, str]) -> SharedEngine | None:
    """Return the settings of a shared engine; None if the agent may power its machine off.

    A machine that ends with its job is of no other use.
    """
    if read_bounds(environment).power_off:
        return None
    defaults = SharedEngine()
    found = {name: value_of(environment, PREFIX + name.upper()) for name in defaults._fields}
    return SharedEngine(
        network_pool=found["network_pool"] or defaults.network_pool,
        engine_disk=found["engine_disk"],
        images_disk_percent=_or(found["images_disk_percent"], defaults.images_disk_percent),
        images_keep_hours=_or(found["images_keep_hours"], defaults.images_keep_hours),
    )


def _or(text: str, default: float) -> float:
    """Return the number that *text* is, or *default*."""
    try:
        return float(text)
    except ValueError:
        return default


def read_api_url(text: str) -> str:
    """Return the API's URL; raises ConfigError, without the text: it may have a password."""
    name = f"{PREFIX}API_URL"
    try:
        url = urlsplit(text)
        complete = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        complete = False
    if not complete:
        raise ConfigError(f"{name} is no URL like http://api:8000")
    if "@" in url.netloc:
        raise ConfigError(f"{name} has a login, which the agent would not send")
    if url.query or url.fragment:
        raise ConfigError(f"{name} has a query or fragment: it must end with its path")
    return text


def read_api_ca(environment: Mapping[str, str]) -> str:
    """Return the authority's certificate, of the variable or its file; raises ConfigError."""
    name = PREFIX + "API_CA"
    file = value_of(environment, name + "_FILE")
    try:
        text = value_of(environment, name) or (Path(file).read_text("utf-8") if file else "")
        if text:
            ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} is no certificate in PEM: {error}") from None
    return text


def read_metadata_url(environment: Mapping[str, str]) -> str | None:
    """Return the URL of the instance metadata service, None without one."""
    endpoint = value_of(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT")
    if endpoint:
        return endpoint
    on_ec2 = environment.get(PREFIX + "METADATA") == "ec2"
    return EC2_METADATA_URL if on_ec2 or environment.get(PREFIX + "IDENTITY") == "sts" else None


def environment_for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without our variables, for docker clients and the guard."""
    return {name: value for name, value in environment.items() if not name.startswith(PREFIX)}
