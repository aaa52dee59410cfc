"""The fields of a job that its client gives, each declared once.

From this declaration come the body of `POST /schedule` (`JobRequest` in `submission/request.py`),
its limits and messages, the row (`Job` in `model.py`), its columns in SQL (`columns.py`), the
OpenAPI schema and docs/api.md. To add an optional field: declare it here, add its column in `sql/`,
and use it (see `container_fields.py` for those of the container).

`Meta.extra` has what `Meta` has no place for: messages (`wrong`, `wrong_type`, `wrong_length`, see
`submission/faults.py`), the order of a Literal's `values`, and as
what a value is `written` where that is not as what it is kept.
"""

from datetime import datetime
from typing import Annotated, get_args

from msgspec import Meta, Struct

from services.api.jobs import container_fields
from services.api.jobs.sizes import ARGUMENTS_LIMIT, OWN_VARIABLES, VARIABLES_LIMIT
from shared.events.requirements import Capacity, Resources

MAX_LABELS = 50
MAX_RETRIES = 100
MAX_LABEL_LENGTH = 256


def whole(pattern: str) -> str:
    """*pattern*, to match a text from its beginning to its end."""
    return rf"\A(?:{pattern})\Z"


# The reference grammar of the distribution project:
# https://pkg.go.dev/github.com/distribution/reference
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
HOST = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = (
    rf"(?:{HOST}/)?{_PATH}(?:/{_PATH})*(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
PLACE = (
    r"[A-Za-z0-9_./-]+(?::[A-Za-z0-9_.-]+)?"  # an SSM parameter, perhaps with a version or label
    r"|arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_./-]+"
    r"|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]+"
)
NO_NUL = r"^[^\u0000]*$"
NO_NUL_OR_COLON = r"^[^\u0000:]*$"
_NUL = "{path} must not hold a NUL character"
_LABEL_NUL = "labels must not hold a NUL character"
_LABEL_LENGTH = ": name and value have at most 256 characters and the name at least one"
_BAD_PLACE = (
    "{path} must be the name or ARN of an SSM parameter, or the ARN of a Secrets Manager secret"
)
BAD_LOGIN = (
    "registry_auth must be 'ecr', or a name in secret_env or secrets whose value is "
    '{"username": …, "password": …} or user:password'
)

VariableName = Annotated[
    str,
    Meta(
        pattern=whole("[A-Za-z_][A-Za-z0-9_]*"),
        extra_json_schema={"not": {"enum": list(OWN_VARIABLES)}},
        extra={
            "wrong": "{path} has the name {value}: a name is made of letters, digits and "
            "underscores and does not begin with a digit"
        },
    ),
]
VariableValue = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": NO_NUL},
        extra={
            "lacks": "\0",
            "wrong_type": "{path} must be a string, a number or a boolean",
            "wrong": _NUL,
        },
    ),
]
Variables = dict[VariableName, VariableValue]

ANY_SCALAR = {"additionalProperties": {"type": ["string", "number", "boolean"]}}
"""The types as which values of variables may be written; they are kept as texts."""

_Argument = Annotated[
    str, Meta(extra_json_schema={"pattern": NO_NUL}, extra={"lacks": "\0", "wrong": _NUL})
]
_LabelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_LABEL_LENGTH,
        extra={
            "lacks": "\0",
            "wrong": _LABEL_NUL,
            "wrong_length": "{path}.{value}" + _LABEL_LENGTH,
        },
    ),
]
_LabelValue = Annotated[
    str,
    Meta(
        max_length=MAX_LABEL_LENGTH,
        extra_json_schema={"pattern": NO_NUL},
        extra={"lacks": "\0", "wrong": _LABEL_NUL, "wrong_length": "{path}" + _LABEL_LENGTH},
    ),
]
_Place = Annotated[
    str,
    Meta(
        pattern=whole(PLACE),
        max_length=2048,
        extra={"wrong": _BAD_PLACE, "wrong_type": _BAD_PLACE},
    ),
]


class JobFields(Struct, frozen=True, kw_only=True):
    """The fields that a request and a job's row have in common."""

    docker_image: Annotated[
        str,
        Meta(
            pattern=whole(IMAGE),
            max_length=4096,
            description="An image reference.",
            examples=["alpine:3.20", "python:3.13-slim", "registry.example.com/team/app:1.2"],
            extra={
                "wrong": "{path} {value} is not an image reference: write one like 'alpine', "
                "'python:3.13-slim' or 'registry.example.com/team/app@sha256:…', "
                "its name in lower case"
            },
        ),
    ]
    scheduled_for: datetime
    timezone: Annotated[
        str,
        Meta(
            description="An IANA time zone, by its name in the IANA's list; UTC in any case.",
            examples=["Europe/Berlin", "UTC"],
            extra_json_schema={"format": "time-zone"},
        ),
    ] = "UTC"
    env_vars: Annotated[
        Variables,
        Meta(
            description="Environment variables of the container; a number or boolean is passed on "
            f"as it is written. {VARIABLES_LIMIT}",
            examples=[{"KEY": "VALUE"}, {"RETRY": 3}],
            extra={"written": ANY_SCALAR},
        ),
    ] = {}
    entrypoint: (
        Annotated[
            list[_Argument],
            Meta(
                description="Replaces the image's entrypoint, and with it the image's command; an "
                f"empty array removes both, and `command` names the program. {ARGUMENTS_LIMIT}",
                examples=[["/bin/sh", "-c"]],
            ),
        ]
        | None
    ) = None
    command: (
        Annotated[
            list[_Argument],
            Meta(
                description=f"Replaces the image's command. {ARGUMENTS_LIMIT}",
                examples=[["echo", "hello"]],
            ),
        ]
        | None
    ) = None
    labels: Annotated[
        dict[_LabelName, _LabelValue],
        Meta(
            max_length=MAX_LABELS,
            description="Labels to find jobs by: `GET /list?label=team:data`. No name has a colon.",
            examples=[{"team": "data"}],
            extra={"written": {"propertyNames": {"pattern": NO_NUL_OR_COLON}}},
        ),
    ] = {}
    timeout_seconds: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=2**31 - 1,
                description="The longest time that the container may run; then the job is FAILED.",
                examples=[3600],
            ),
        ]
        | None
    ) = None
    name: (
        Annotated[
            str,
            Meta(
                pattern=whole(r"[^\u0000]*[^\u0000\s][^\u0000]*"),
                min_length=1,
                max_length=200,
                description="A name for users to recognise the job by.",
                examples=["nightly report"],
                extra={"wrong": _NUL},
            ),
        ]
        | None
    ) = None
    resources: Annotated[
        Resources,
        Meta(
            description="Minimum resources of the job's instance; where instances share an "
            "engine, the limits of its container."
        ),
    ] = Resources()
    capacity: Annotated[
        Capacity,
        Meta(
            description="The market on which the instance is bought.",
            examples=["spot"],
            extra={"values": get_args(Capacity)},
        ),
    ] = "spot"
    spot_wait_seconds: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=30 * 86_400,
                description="The time for which Spot is tried before on-demand is bought "
                "(`spot_then_on_demand`) or the job fails without capacity (`spot`). Not with "
                "`on_demand`.",
                examples=[600],
            ),
        ]
        | None
    ) = None
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_RETRIES,
            description="Further attempts after the container failed; interruptions and failed "
            "pulls have limits of their own.",
            examples=[2],
        ),
    ] = 0
    secrets: Annotated[
        dict[VariableName, _Place],
        Meta(
            max_length=100,
            description="Variables whose values the instance reads with its own role: the name or "
            "ARN of an SSM parameter, or the ARN of a Secrets Manager secret.",
            examples=[{"DB_PASSWORD": "/prod/db/password"}],
        ),
    ] = {}
    registry_auth: (
        Annotated[
            str,
            Meta(
                description="The login to the registry: `ecr` for an image of ECR, or the name in "
                "`secret_env` or `secrets` that holds the login.",
                extra={"wrong_type": BAD_LOGIN},
            ),
        ]
        | None
    ) = None
    user: container_fields.User | None = None
    working_dir: container_fields.WorkingDirectory | None = None
    shm_size_mib: container_fields.ShmSize | None = None
    init: container_fields.Init | None = None
    stop_signal: container_fields.StopSignal | None = None
    stop_grace_seconds: container_fields.StopGrace | None = None
    read_only: container_fields.ReadOnly = False


FIELDS = JobFields.__struct_fields__
