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
from services.api.jobs.fields import ANY_SCALAR, JobFields, Variables
from services.api.submission import capacity, exec_limits, images, secret_fields, when
from services.api.submission.faults import check, check_texts, has_plain_texts, short, unknown_field
from services.api.submission.json_body import BadRequest, Number, read_json
from services.api.submission.registries import RegistryRules
from shared.events.cost_tags import SETTING, trouble_with_value
from shared.events.requirements import Architecture, Capacity
from shared.settings import PREFIX

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
_MINUS_ZERO = Number("-0")


class Bounds(Struct, frozen=True, kw_only=True, dict=True):
    """The deployment's limits and defaults, over the declared ones.

    *region* is the instances', empty if there is none; *have_role*: they have a role on AWS.
    """

    default_timezone: str
    max_lifetime_seconds: int
    default_capacity: Capacity = "spot"
    default_architecture: Architecture = "x86_64"
    default_retries: int = 0
    keeps_secrets: bool = False
    region: str = ""
    have_role: bool = True
    cost_tags: tuple[str, ...] = ()
    """The names of the labels that become tags of the instance."""
    registries: RegistryRules = RegistryRules()

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


def read_job(body: Any, now: datetime, bounds: Bounds) -> JobRequest:
    """Read one job. Raises `BadRequest` for the first field that is wrong."""
    if not isinstance(body, dict):
        raise BadRequest('the body must be a JSON object, like {"docker_image": "alpine", …}')
    if not body.keys() <= _FIELDS:
        unknown = next(name for name in body if name not in _FIELDS)
        raise BadRequest(unknown_field(unknown, JobRequest))
    given = _in_one_form(body, now, bounds)
    job = check(given, JobRequest, most=bounds.most)
    images.check_image(job.docker_image, bounds.registries)
    if job.env_vars or job.secret_env or job.secrets:
        exec_limits.check_names(
            env_vars=job.env_vars, secret_env=job.secret_env, secrets=job.secrets
        )
    if not has_plain_texts(body):
        check_texts(given, job)
        exec_limits.check_sizes(
            {"entrypoint": job.entrypoint or (), "command": job.command or ()},
            {"env_vars": job.env_vars, "secret_env": job.secret_env},
            job.secrets,
        )
    if job.entrypoint is not None:
        exec_limits.check_program(job.entrypoint, job.command or ())
    if job.working_dir is not None:
        exec_limits.check_directory(job.working_dir)
    if job.labels:
        _check_labels(job.labels, bounds.cost_tags)
    if job.secret_env or job.secrets or job.registry_auth is not None:
        _check_secrets(job, bounds)
    if job.spot_wait_seconds is not None:
        capacity.check_spot_wait(job.spot_wait_seconds, job.capacity)
    return job


def _check_secrets(job: JobRequest, bounds: Bounds) -> None:
    if job.secret_env and not bounds.keeps_secrets:
        raise BadRequest(
            "secret_env needs a key to keep its values under: set DOCKER_JOB_SECRETS_KEY to 64 "
            "hexadecimal digits, or name where they are kept in secrets"
        )
    secret_fields.check_apart(env_vars=job.env_vars, secret_env=job.secret_env, secrets=job.secrets)
    if not bounds.have_role:
        secret_fields.check_without_role(job.secrets, job.registry_auth)
    secret_fields.check_places(job.secrets, bounds.region)
    if job.registry_auth is not None:
        secret_fields.check_registry_auth(
            job.registry_auth, job.docker_image, job.secret_env, job.secrets
        )


def _in_one_form(body: dict[str, Any], now: datetime, bounds: Bounds) -> dict[str, Any]:
    """Convert the fields of *body* to the forms in which they are kept; add the defaults.

    A value of another type is left as it is, for `check` to refuse.
    """
    if None in body.values():
        body = {name: value for name, value in body.items() if value is not None}
    if _MINUS_ZERO in body.values():
        body = {name: 0 if value == _MINUS_ZERO else value for name, value in body.items()}
    given = bounds.defaults | body
    if "stop_signal" in body:
        given["stop_signal"] = signals.canonical(body["stop_signal"])
    given["docker_image"] = _stripped(given, "docker_image")
    written = _stripped(given, "scheduled_for")
    given["scheduled_for"], given["timezone"] = _time_and_zone(written, given["timezone"], now)
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


def _time_and_zone(value: Any, timezone: Any, now: datetime) -> tuple[datetime, str]:
    if not isinstance(value, str):
        raise BadRequest(f"scheduled_for must be a string: {when.FORMS}")
    if not isinstance(timezone, str):
        raise BadRequest("timezone must be a string, an IANA name like 'Europe/Berlin'")
    try:
        zone = when.zone(timezone)
        return when.time_of(value, zone, now), zone.key
    except when.BadTime as error:
        raise BadRequest(str(error)) from None


def _as_text(value: Any) -> Any:
    """*value*, a boolean or number as it was written."""
    if isinstance(value, str):
        return value
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool | int):
        return msgspec.json.encode(value).decode()
    return value


def _check_labels(labels: dict[str, str], cost_tags: tuple[str, ...]) -> None:
    if ":" in "".join(labels):
        wrong = next(name for name in labels if ":" in name)
        raise BadRequest(
            f"labels has the name {short(wrong)}: a name has no colon, since in "
            "/list?label=name:value the first colon ends it"
        )
    for name in cost_tags:
        trouble = trouble_with_value(labels.get(name, ""))
        if trouble is not None:
            raise BadRequest(
                f"labels.{name} {trouble}: it becomes a tag of the job's instance, by this "
                f"deployment's {PREFIX}{SETTING}"
            )
