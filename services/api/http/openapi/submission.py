"""What people send: the body of `POST /schedule`, from the limits of `requests.py`."""

from services.api.http.openapi.shapes import (
    NO_NUL,
    Schema,
    a_list,
    an_object,
    matching,
    nullable,
    one_of,
    ref,
    told,
    whole,
)
from services.api.http.routes.jobs import MAX_ORDERS
from services.api.submission import capacity, request, secret_fields, when
from services.api.submission.request import Bounds

ONE_LINE = r"^[^\n\r\u0000]*$"


def schemas(bounds: Bounds) -> dict[str, Schema]:
    """The schemas by their names."""
    orders = a_list(ref("Order"), minItems=1, maxItems=MAX_ORDERS)
    return {
        "Order": _order(bounds),
        "Orders": told("Jobs that are scheduled all or none.", orders),
        "Resources": _resources(),
    }


def _order(bounds: Bounds) -> Schema:
    described = _what(bounds) | _where(bounds) | _secrets()
    required = ("docker_image", "scheduled_for")
    properties = {
        name: described[name] if name in required else _optional(described[name])
        for name in request.FIELDS
    }
    schema = an_object(properties, *(name for name in properties if name not in required))
    return schema | {
        "additionalProperties": False,
        "description": "A job to be. What is left out or null takes its default.",
    }


def _optional(schema: Schema) -> Schema:
    described = nullable({key: each for key, each in schema.items() if key != "description"})
    return told(schema["description"], described)


def _what(bounds: Bounds) -> dict[str, Schema]:
    """What is run, and when."""
    text = {"type": "string", "pattern": NO_NUL}
    label = {**text, "maxLength": request.MAX_LABEL_LENGTH}
    return {
        "docker_image": told(
            "An image reference.",
            matching(
                request.IMAGE,
                maxLength=request.MAX_IMAGE_LENGTH,
                examples=["alpine", "python:3.13-slim", "registry.example.com/team/app:1.2"],
            ),
        ),
        "scheduled_for": {
            "type": "string",
            "format": "scheduled-for",
            "minLength": 1,
            "description": f"When: {when.FORMS}. A time of day is its next occurrence; it and a "
            "moment without an offset from UTC are read in `timezone`. At most "
            f"{when.LATEST.days} days away.",
            "examples": ["now", "10:00", "+90s", "+3d", "2030-11-24T10:00:00+01:00"],
        },
        "timezone": {
            "type": "string",
            "format": "time-zone",
            "description": f"An IANA time zone; default {bounds.default_timezone}.",
            "examples": ["Europe/Berlin", "UTC"],
        },
        "env_vars": told(
            "The container's variables; a number or boolean is passed on as it is written. With "
            f"`secret_env` at most {request.MAX_ENV_BYTES} bytes.",
            {**_variables(), "examples": [{"KEY": "VALUE", "RETRY": 3}]},
        ),
        "command": told(
            "What the container runs instead of its image's own; at most "
            f"{request.MAX_COMMAND_BYTES} bytes.",
            a_list(text, examples=[["echo", "hello"]]),
        ),
        "labels": {
            "type": "object",
            "maxProperties": request.MAX_LABELS,
            "propertyNames": {**label, "minLength": 1},
            "additionalProperties": label,
            "description": "For finding jobs again (`GET /list?label=team:data`).",
            "examples": [{"team": "data"}],
        },
        "timeout_seconds": told(
            "How long the container may run; then the job is FAILED.",
            whole(1, bounds.max_lifetime_seconds, examples=[3600]),
        ),
        "name": {
            "type": "string",
            "pattern": r"^[^\u0000]*[^\u0000\s][^\u0000]*$",
            "maxLength": request.MAX_NAME_LENGTH,
            "description": "What a person calls it.",
            "examples": ["nightly report"],
        },
    }


def _where(bounds: Bounds) -> dict[str, Schema]:
    """On what kind of instance, and how often again."""
    return {
        "resources": told("What its instance must have at least.", ref("Resources")),
        "capacity": told(
            f"How the instance is bought; default {bounds.default_capacity}.",
            one_of(capacity.CAPACITIES, examples=[capacity.CAPACITIES[0]]),
        ),
        "spot_wait_seconds": told(
            "How long Spot is tried before on-demand is bought (`spot_then_on_demand`) or the job "
            "fails for want of capacity (`spot`). Not with `on_demand`.",
            whole(0, capacity.MAX_WAIT_SECONDS, examples=[600]),
        ),
        "retries": told(
            "Further attempts after the container failed; interruptions and pulls have budgets of "
            f"their own. Default {bounds.default_retries}.",
            whole(0, request.MAX_RETRIES, examples=[2]),
        ),
    }


def _secrets() -> dict[str, Schema]:
    return {
        "secret_env": told(
            "Variables whose values are kept sealed, shown to the job's own agent alone, and wiped "
            "when the job is over. Needs `DOCKER_JOB_SECRETS_KEY`.",
            {**_variables(), "examples": [{"TOKEN": "s3cret"}]},
        ),
        "secrets": {
            "type": "object",
            "maxProperties": secret_fields.MAX_SECRETS,
            "propertyNames": matching(secret_fields.NAME),
            "additionalProperties": matching(
                secret_fields.PLACE, maxLength=secret_fields.MAX_PLACE
            ),
            "description": "Variables whose values the instance reads by its own role: the name or "
            "ARN of an SSM parameter, or the ARN of a Secrets Manager secret.",
            "examples": [{"DB_PASSWORD": "/prod/db/password"}],
        },
        "registry_auth": {
            "type": "string",
            "description": "How the registry is logged in to: `ecr`, or which name in `secret_env` "
            "or `secrets` holds the login.",
            "examples": ["ecr"],
        },
    }


def _variables() -> Schema:
    value = {"type": ["string", "number", "boolean"], "pattern": ONE_LINE}
    return {
        "type": "object",
        "propertyNames": matching(request.ENV_NAME),
        "additionalProperties": value,
    }


def _resources() -> Schema:
    units = {"memory_mib": " in MiB", "disk_gib": " in GiB"}
    numbers = {
        name: told(
            f"At least{units.get(name, '')}; the deployment's default where it is left out.",
            nullable(whole(1, most)),
        )
        for name, most in capacity.MOST.items()
    }
    types = a_list(
        matching(capacity.INSTANCE_TYPE, maxLength=capacity.MAX_TYPE_LENGTH),
        maxItems=capacity.MAX_INSTANCE_TYPES,
        examples=[["m7g.medium", "m7g.large"]],
    )
    described = numbers | {
        "architecture": told(
            "Of the processor; default: the deployment's. With gpus x86_64 alone.",
            nullable(one_of(capacity.ARCHITECTURES)),
        ),
        "instance_types": told(
            "These alone; not with vcpus, memory_mib or gpus, which choose them.", nullable(types)
        ),
    }
    properties = {name: described[name] for name in capacity.RESOURCE_FIELDS}
    return an_object(properties, *properties) | {
        "additionalProperties": False,
        "not": {
            "properties": {"architecture": {"const": "arm64"}, "gpus": {"type": "integer"}},
            "required": ["architecture", "gpus"],
        },
        "description": "What an instance must have at least; gpus are NVIDIA's.",
        "examples": [{"vcpus": 2, "memory_mib": 4096}],
    }
