"""The body of `POST /schedule`: from untrusted bytes to a value, or an error that names the field.

The fields and their limits are declared in `jobs/fields.py`; here is what a declaration cannot say:
the forms in which a value may be written, the limits of the deployment, and how fields go together.
"""

from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, field

from services.api.jobs import signals
from services.api.jobs.fields import ANY_SCALAR, MAX_ENV_BYTES, JobFields, Variables
from services.api.submission import capacity, secret_fields, when
from services.api.submission.faults import (
    BadRequest,
    check,
    check_texts,
    has_plain_texts,
    unknown_field,
)
from shared.events.events import Architecture, Capacity

__all__ = ["FIELDS", "BadRequest", "Bounds", "JobRequest", "read_job", "read_json"]


class JobRequest(JobFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to schedule. A field that is left out or null takes its default."""

    EXAMPLE: ClassVar = {
        "docker_image": "alpine",
        "scheduled_for": "10:00",
        "env_vars": {"KEY": "VALUE"},
    }

    scheduled_for: Annotated[
        datetime,
        Meta(
            tz=True,
            description=f"The time: {when.FORMS}. A time of day is its next occurrence; it and a "
            f"time without an offset from UTC are read in `timezone`. At most {when.LATEST.days} "
            "days away.",
            examples=["now", "10:00", "+90s", "+3d", "2030-11-24T10:00:00+01:00"],
            extra={"written": {"format": "scheduled-for", "minLength": 1}},
        ),
    ]
    secret_env: Annotated[
        Variables,
        Meta(
            description="Variables whose values are kept sealed, given to the job's own agent only "
            "and deleted when the job is over. Needs `DOCKER_JOB_SECRETS_KEY`.",
            examples=[{"TOKEN": "s3cret"}],
            extra={"written": ANY_SCALAR},
        ),
    ] = field(default_factory=dict)


FIELDS = JobRequest.__struct_fields__
_FIELDS = frozenset(FIELDS)
_TEXT = {str}


class Bounds(Struct, frozen=True, kw_only=True, dict=True):
    """The deployment's limits and defaults, over the declared ones."""

    default_timezone: str
    max_lifetime_seconds: int
    default_capacity: Capacity = "spot"
    default_architecture: Architecture = "x86_64"
    default_retries: int = 0
    keeps_secrets: bool = False

    @cached_property
    def most(self) -> dict[str, int]:
        """The greatest allowed numbers, by the names of fields."""
        return {"timeout_seconds": self.max_lifetime_seconds}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The values of fields that are left out or null."""
        return {
            "timezone": self.default_timezone,
            "capacity": self.default_capacity,
            "retries": self.default_retries,
        }


class Fraction(Struct, frozen=True):
    """A JSON number with a point or an exponent, as written: 3.10 is not 3.1 in an env variable."""

    text: str


_decoder = msgspec.json.Decoder(float_hook=Fraction)


def read_json(raw: bytes) -> Any:
    """Decode the body as JSON, whatever its Content-Type says. Raises `BadRequest`."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def read_job(body: Any, now: datetime, bounds: Bounds) -> JobRequest:
    """Read one job. Raises `BadRequest` for the first field that is wrong."""
    if not isinstance(body, dict):
        raise BadRequest('the body must be a JSON object, like {"docker_image": "alpine", …}')
    if not body.keys() <= _FIELDS:
        unknown = next(name for name in body if name not in _FIELDS)
        raise BadRequest(unknown_field(unknown, JobRequest))
    given = _in_one_form(body, now, bounds)
    job = check(given, JobRequest, most=bounds.most)
    if not has_plain_texts(body):
        check_texts(given, job)
        _check_size(job.env_vars, job.secret_env)
    if job.secret_env and not bounds.keeps_secrets:
        raise BadRequest(
            "secret_env needs a key to keep its values under: set DOCKER_JOB_SECRETS_KEY to 64 "
            "hexadecimal digits, or name where they are kept in secrets"
        )
    if job.secret_env or job.secrets:
        secret_fields.check_apart(
            env_vars=job.env_vars, secret_env=job.secret_env, secrets=job.secrets
        )
    if job.registry_auth is not None:
        names = job.secret_env.keys() | job.secrets.keys()
        secret_fields.check_registry_auth(job.registry_auth, names)
    if job.spot_wait_seconds is not None:
        capacity.check_spot_wait(job.spot_wait_seconds, job.capacity)
    return job


def _in_one_form(body: dict[str, Any], now: datetime, bounds: Bounds) -> dict[str, Any]:
    """Convert the fields of *body* to the forms in which they are kept; add the defaults.

    A value of another type is left as it is, for `check` to refuse.
    """
    if None in body.values():
        body = {name: value for name, value in body.items() if value is not None}
    given = bounds.defaults | body
    if "stop_signal" in body:
        given["stop_signal"] = signals.canonical(body["stop_signal"])
    given["docker_image"] = _stripped(given, "docker_image")
    given["scheduled_for"] = _time(_stripped(given, "scheduled_for"), given["timezone"], now)
    for name in ("env_vars", "secret_env"):
        variables = body.get(name)
        if isinstance(variables, dict) and not _TEXT.issuperset(map(type, variables.values())):
            given[name] = {key: _as_text(value) for key, value in variables.items()}
    if (resources := given.get("resources")) is not None:
        given["resources"] = capacity.read_resources(resources, bounds.default_architecture)
    return given


def _stripped(given: dict[str, Any], name: str) -> Any:
    value = given.get(name, "")
    if isinstance(value, str) and not (value := value.strip()):
        raise BadRequest(f"{name} field cannot be empty")
    return value


def _time(value: Any, timezone: Any, now: datetime) -> datetime:
    if not isinstance(value, str):
        raise BadRequest(f"scheduled_for must be a string: {when.FORMS}")
    if not isinstance(timezone, str):
        raise BadRequest("timezone must be a string, an IANA name like 'Europe/Berlin'")
    try:
        return when.time_of(value, when.zone(timezone), now)
    except when.BadTime as error:
        raise BadRequest(str(error)) from None


def _as_text(value: Any) -> Any:
    """*value*, a boolean or number as it was written."""
    if isinstance(value, str):
        return value
    if isinstance(value, Fraction):
        return value.text
    if isinstance(value, bool | int):
        return msgspec.json.encode(value).decode()
    return value


def _check_size(*variables: dict[str, str]) -> None:
    size = len("".join([text for each in variables for text in (*each, *each.values())]).encode())
    if size > MAX_ENV_BYTES:
        raise BadRequest(f"env_vars holds {size} bytes, at most {MAX_ENV_BYTES} are taken")
