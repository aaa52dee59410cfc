"""The body of `POST /plan`: a job as for `POST /schedule`, with its expected time."""

from datetime import datetime
from typing import Any

from services.api.offers.model import Expectation, PlanRequest
from services.api.submission.faults import check, unknown_field
from services.api.submission.request import FIELDS, BadRequest, Bounds, JobRequest, read_job

EXPECTED = "expected_seconds"


def read_plan(body: Any, now: datetime, bounds: Bounds) -> PlanRequest:
    """Read the body. Raises `BadRequest` as `read_job` does."""
    if not isinstance(body, dict):
        return PlanRequest(job=read_job(body, now, bounds))  # which refuses it
    for name in body:
        if name not in FIELDS and name != EXPECTED:
            raise BadRequest(f"{unknown_field(name, JobRequest)}, {EXPECTED}")
    job = read_job({name: each for name, each in body.items() if name != EXPECTED}, now, bounds)
    given = {name: each for name, each in body.items() if name == EXPECTED}
    read = check(given, Expectation, most={EXPECTED: bounds.max_lifetime_seconds})
    return PlanRequest(job=job, expected_seconds=read.expected_seconds)
