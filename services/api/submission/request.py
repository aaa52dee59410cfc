"""The body of `POST /schedule`: from untrusted bytes to a value, or an error that names the field.

Read field by field and not by a schema: the message is for the person who typed the curl, and two
of them are promised to the letter.
"""

import re
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from services.api.submission import capacity, secret_fields, when
from shared.events.events import Architecture, Capacity, Resources

# The reference grammar of the distribution project:
# https://pkg.go.dev/github.com/distribution/reference
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_PATH}(?:/{_PATH})*(?::[\w][\w.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

MAX_ENV_BYTES = 65_536
MAX_COMMAND_BYTES = 65_536
MAX_LABELS = 50
MAX_LABEL_LENGTH = 256
MAX_NAME_LENGTH = 200
MAX_IMAGE_LENGTH = 4096
MAX_RETRIES = 100

FIELDS = (
    "docker_image",
    "scheduled_for",
    "timezone",
    "env_vars",
    "command",
    "labels",
    "timeout_seconds",
    "name",
    "resources",
    "capacity",
    "spot_wait_seconds",
    "retries",
    "secret_env",
    "secrets",
    "registry_auth",
)
_FIELDS = frozenset(FIELDS)


class BadRequest(Exception):
    """The request cannot be taken. The message names the field and says what is right."""


class Order(Struct, frozen=True, kw_only=True):
    """A validated wish for a job."""

    docker_image: str
    scheduled_for: datetime
    timezone: str
    env_vars: dict[str, str]
    command: list[str] | None
    labels: dict[str, str]
    timeout_seconds: int | None
    name: str | None
    resources: Resources
    capacity: Capacity
    spot_wait_seconds: int | None
    retries: int
    secret_env: dict[str, str]
    secrets: dict[str, str]
    registry_auth: str | None


class Bounds(Struct, frozen=True, kw_only=True):
    """The settings that a wish is held against."""

    default_timezone: str
    max_lifetime_seconds: int
    default_capacity: Capacity = "spot"
    default_architecture: Architecture = "x86_64"
    default_retries: int = 0
    keeps_secrets: bool = False


class Fraction(Struct, frozen=True):
    """A JSON number with a point or an exponent, as written: 3.10 is not 3.1 in an env variable."""

    text: str


_decoder = msgspec.json.Decoder(float_hook=Fraction)


def read_json(raw: bytes) -> Any:
    """The body as JSON, whatever its Content-Type said. Raises `BadRequest`."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def read_order(body: Any, now: datetime, bounds: Bounds) -> Order:
    """One job's wish. Raises `BadRequest` for the first field that is wrong."""
    if not isinstance(body, dict):
        raise BadRequest('the body must be a JSON object, like {"docker_image": "alpine", …}')
    for field in body:
        if field not in _FIELDS:
            raise BadRequest(f"unknown field {_short(field)}: the fields are {', '.join(FIELDS)}")
    image = _image(body.get("docker_image"))
    scheduled_for, timezone = _when(body, now, bounds)
    env_vars = _env_vars(body.get("env_vars"), "env_vars")
    secret_env = _secret_env(body.get("secret_env"), bounds)
    _check_size(env_vars, secret_env)
    try:
        secrets = secret_fields.read_secrets(body.get("secrets"))
        if secret_env or secrets:
            secret_fields.check_apart(env_vars=env_vars, secret_env=secret_env, secrets=secrets)
        registry_auth = secret_fields.read_registry_auth(
            body.get("registry_auth"), secret_env.keys() | secrets.keys()
        )
        resources = capacity.read_resources(body.get("resources"), bounds.default_architecture)
        bought = capacity.read_capacity(body.get("capacity"), bounds.default_capacity)
        spot_wait_seconds = capacity.read_spot_wait(body.get("spot_wait_seconds"), bought)
    except capacity.BadWish as error:
        raise BadRequest(str(error)) from None
    return Order(
        docker_image=image,
        scheduled_for=scheduled_for,
        timezone=timezone,
        env_vars=env_vars,
        command=_command(body.get("command")),
        labels=_labels(body.get("labels")),
        timeout_seconds=_timeout(body.get("timeout_seconds"), bounds),
        name=_name(body.get("name")),
        resources=resources,
        capacity=bought,
        spot_wait_seconds=spot_wait_seconds,
        retries=_retries(body.get("retries"), bounds),
        secret_env=secret_env,
        secrets=secrets,
        registry_auth=registry_auth,
    )


def _image(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRequest("docker_image field cannot be empty")
    if not isinstance(value, str):
        raise BadRequest("docker_image must be a string, like 'alpine:3.20'")
    image = value.strip()
    if len(image) > MAX_IMAGE_LENGTH or not IMAGE.fullmatch(image):
        raise BadRequest(
            f"docker_image {_short(image)} is not an image reference: write one like 'alpine', "
            "'python:3.13-slim' or 'registry.example.com/team/app@sha256:…'"
        )
    return image


def _when(body: dict[str, Any], now: datetime, bounds: Bounds) -> tuple[datetime, str]:
    value = body.get("scheduled_for")
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRequest("scheduled_for field cannot be empty")
    if not isinstance(value, str):
        raise BadRequest(f"scheduled_for must be a string: {when.FORMS}")
    timezone = body.get("timezone")
    if timezone is None:
        timezone = bounds.default_timezone
    if not isinstance(timezone, str):
        raise BadRequest("timezone must be a string, an IANA name like 'Europe/Berlin'")
    try:
        return when.moment(value, when.zone(timezone), now), timezone
    except when.BadMoment as error:
        raise BadRequest(str(error)) from None


def _secret_env(value: Any, bounds: Bounds) -> dict[str, str]:
    if value is not None and not bounds.keeps_secrets:
        raise BadRequest(
            "secret_env needs a key to keep its values under: set DOCKER_JOB_SECRETS_KEY to 64 "
            "hexadecimal digits, or name where they are kept in secrets"
        )
    return _env_vars(value, "secret_env")


def _check_size(*variables: dict[str, str]) -> None:
    each = [pair for group in variables for pair in group.items()]
    # A character takes four bytes at most, and nearly always there are too few of them to count.
    if 4 * sum([len(name) + len(text) for name, text in each]) <= MAX_ENV_BYTES:
        return
    size = sum(len(name.encode()) + len(text.encode()) for name, text in each)
    if size > MAX_ENV_BYTES:
        raise BadRequest(f"env_vars holds {size} bytes, at most {MAX_ENV_BYTES} are taken")


def _env_vars(value: Any, field: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f'{field} must be an object of strings, like {{"KEY": "VALUE"}}')
    read = {}
    for name, raw in value.items():
        if not ENV_NAME.fullmatch(name):
            raise BadRequest(
                f"{field} has the name {_short(name)}: a name is made of letters, digits and "
                "underscores and does not begin with a digit"
            )
        text = _scalar_text(raw)
        if text is None:
            raise BadRequest(f"{field}.{name} must be a string, a number or a boolean")
        if "\n" in text or "\r" in text or "\0" in text:
            raise BadRequest(f"{field}.{name} must not hold a line break or a NUL character")
        read[name] = text
    return read


def _scalar_text(value: Any) -> str | None:
    """A string as it is; a boolean or number as it was written; anything else is None."""
    if isinstance(value, str):
        return value
    if isinstance(value, Fraction):
        return value.text
    if isinstance(value, bool | int):
        return msgspec.json.encode(value).decode()
    return None


def _command(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadRequest('command must be an array of strings, like ["echo", "hello"]')
    if any("\0" in each for each in value):
        raise BadRequest("command must not hold a NUL character")
    if sum(len(each.encode()) for each in value) > MAX_COMMAND_BYTES:
        raise BadRequest(f"command is too long, at most {MAX_COMMAND_BYTES} bytes are taken")
    return value


def _labels(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    right = 'labels must be an object of strings, like {"team": "data"}'
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise BadRequest(right)
    if len(value) > MAX_LABELS:
        raise BadRequest(f"labels has {len(value)} entries, at most {MAX_LABELS} are taken")
    for name, text in value.items():
        if not name or len(name) > MAX_LABEL_LENGTH or len(text) > MAX_LABEL_LENGTH:
            raise BadRequest(
                f"labels.{_short(name)}: name and value have at most {MAX_LABEL_LENGTH} characters "
                "and the name at least one"
            )
        if "\0" in name or "\0" in text:
            raise BadRequest("labels must not hold a NUL character")
    return value


def _timeout(value: Any, bounds: Bounds) -> int | None:
    if value is None:
        return None
    most = bounds.max_lifetime_seconds
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"timeout_seconds must be a whole number from 1 to {most}")
    return value


def _retries(value: Any, bounds: Bounds) -> int:
    if value is None:
        return bounds.default_retries
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_RETRIES:
        raise BadRequest(f"retries must be a whole number from 0 to {MAX_RETRIES}")
    return value


def _name(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME_LENGTH:
        raise BadRequest(f"name must be a string of 1 to {MAX_NAME_LENGTH} characters")
    if "\0" in value:
        raise BadRequest("name must not hold a NUL character")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
