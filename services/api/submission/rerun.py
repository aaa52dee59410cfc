"""`POST /jobs/{id}/rerun`: the request for a job that is run again.

The old job's fields are put into the form of a body for `/schedule`, the overrides over them, and
that is read as any body is: so a rerun is refused for what a new job would be refused for.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.api.jobs import store as job_store
from services.api.jobs.fields import FIELDS
from services.api.jobs.model import Job
from services.api.jobs.queries import NoSuchJob
from services.api.secrets.sealing import CannotOpen, SecretKeys, open_secrets
from services.api.secrets.store import find_secrets
from services.api.submission.request import BadRequest, Bounds, JobRequest, read_job
from shared.postgres.pool import Database

_FIRST_WORD = re.compile("[a-z_]*")


@dataclass(frozen=True)
class HeldSecrets:
    """The values of an old job's `secret_env` that can be copied, and why others cannot."""

    values: dict[str, str]
    why_not: str


@dataclass(frozen=True)
class Reruns:
    """Reads requests for reruns; *keys* open the values of `secret_env`."""

    db: Database
    bounds: Bounds
    keys: SecretKeys | None

    async def read(self, job_id: int, overrides: Any, now: datetime) -> JobRequest:
        """Read the request for a rerun. Raises `NoSuchJob` and `BadRequest`."""
        async with self.db.connection() as conn:
            job = await job_store.load_job(conn, job_id)
            sealed = await find_secrets(conn, job_id)
        if job is None:
            raise NoSuchJob(f"there is no job {job_id}")
        held = HeldSecrets({}, f"were deleted when job {job_id} ended")
        if sealed is not None:
            try:
                held = HeldSecrets(open_secrets(self.keys, job_id, sealed), "")
            except CannotOpen:
                held = HeldSecrets(
                    {}, f"of job {job_id} are sealed with a key that this API has not"
                )
        return read_rerun(job, held, overrides, now, self.bounds)


def read_rerun(
    job: Job, held: HeldSecrets, overrides: Any, now: datetime, bounds: Bounds
) -> JobRequest:
    """Read the request for a rerun of *job* with *overrides*. Raises `BadRequest`."""
    if not isinstance(overrides, dict):
        raise BadRequest(
            "the body must be empty, or a JSON object with the fields that change, like "
            '{"retries": 2}'
        )
    body = _given(job) | overrides
    if body["scheduled_for"] is None:
        body["scheduled_for"] = "now"
    body["secret_env"] = _secrets(job, held, overrides)
    try:
        return read_job(body, now, bounds)
    except BadRequest as error:
        raise BadRequest(f"{error}{_hint(str(error), job, overrides)}") from None


def _given(job: Job) -> dict[str, Any]:
    """Return what the client gave, as a body; a rerun is due now."""
    given = {name: getattr(job, name) for name in FIELDS}
    asked = msgspec.to_builtins(job.resources)
    given["resources"] = {name: value for name, value in asked.items() if value}
    return given | {"scheduled_for": "now"}


def _secrets(job: Job, held: HeldSecrets, overrides: dict[str, Any]) -> Any:
    """Return the values: given ones go over held ones. Raises `BadRequest` if some are missing."""
    given = overrides.get("secret_env", {})
    if not isinstance(given, dict):
        return given  # null: no secrets; what is no object is refused as in any body
    missing = [name for name in job.secret_env if name not in held.values and name not in given]
    if missing:
        raise BadRequest(
            f"secret_env: the values of {', '.join(missing)} {held.why_not}: give them again"
        )
    return held.values | given


def _hint(error: str, job: Job, overrides: dict[str, Any]) -> str:
    """Say whose the field is that *error* names, where it is none of the overrides."""
    found = _FIRST_WORD.match(error)
    field = found[0] if found else ""
    if field not in FIELDS or field in overrides:
        return ""
    return f"; {field} is that of job {job.id}: override it, or give null for its default"
