"""`POST /jobs/{id}/rerun`: its description, and that of `Idempotency-Key`."""

from typing import Any

from services.api.http.idempotency import MAX_KEY_LENGTH
from services.api.http.openapi.operations import (
    USERS,
    WITH_BODY,
    header,
    job_id,
    json_of,
    operation,
    parameter,
)
from services.api.http.openapi.shapes import Schema, described, nullable, ref

NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]+$"

KEY = parameter(
    "header",
    "Idempotency-Key",
    "Makes a repeat safe: the same key and body get the first response again, for a week. Those of "
    "different API keys are apart. With a single job only.",
    {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_KEY_LENGTH,
        "pattern": NO_CONTROL_CHARACTERS,
    },
)

ABOUT = """\
Makes a new job of the fields of any other one, whatever became of that. The body may override \
fields, each with its whole value; null stands for the default. `scheduled_for` is now, unless it \
is overridden. Of `secret_env` the values that are still kept are copied, and those in the body go \
over them; values that were deleted must be given again, and the error names them.\
"""


def path() -> dict[str, Any]:
    """Describe the route."""
    created = {
        "description": "Accepted and durable; `rerun_of` is the other job's id.",
        "headers": {"Location": header("The path of the new job's status.")},
        "content": json_of(ref("JobDetail")),
    }
    rerun = operation(
        "rerun",
        "Run a job again, as it was or with other fields.",
        "submit",
        ("KeyConflict", "NoSuchJob", *WITH_BODY, *USERS, "JobQuotaReached"),
        {"201": created},
        description=ABOUT,
        parameters=[job_id(), KEY],
        requestBody={
            "required": False,
            "content": json_of(ref("JobOverrides"), example={"retries": 2}),
        },
    )
    return {"post": rerun}


def schema(job: Schema) -> Schema:
    """Return the schema of the overrides, made from that of a job to schedule."""
    properties = {
        name: {key: value for key, value in each.items() if key != "default"}
        for name, each in job["properties"].items()
    }
    properties["scheduled_for"] = nullable(properties["scheduled_for"])
    about = "The fields of a job to schedule that change; null: the default, which is now for "
    overrides = {name: each for name, each in job.items() if name != "required"}
    return described(f"{about}`scheduled_for`.", overrides | {"properties": properties})
