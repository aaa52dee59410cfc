"""The variables by which a container knows its job. They are not the client's to give. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from services.api.jobs.model import Attempt, Job
from services.api.jobs.sizes import OWN_VARIABLES


def own_variables(job: Job, attempt: Attempt) -> dict[str, str]:
    """Return the values of `OWN_VARIABLES` for the container of *attempt*."""
    time: str = msgspec.to_builtins(job.scheduled_for)
    return dict(
        zip(OWN_VARIABLES, (str(job.id), job.name or "", str(attempt.number), time), strict=True)
    )


def without_own(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return *variables* but those: a job of an earlier release may have given one."""
    return {name: value for name, value in variables.items() if name not in OWN_VARIABLES}
