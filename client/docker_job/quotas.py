"""The document of the quotas, like those of `documents.py`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from docker_job.documents import Document


@dataclass(frozen=True, kw_only=True)
class Quotas(Document):
    """The quotas of live jobs, instances and dollars of a UTC day (to *until*), with their use.

    Each of `jobs`, `instances`, `vcpus` and `usd_per_day` has `used` and `limit` (None: no quota).
    *deployment* is None but for an admin.
    """

    as_of: datetime | None = None
    until: datetime | None = None
    deployment: dict[str, Any] | None = None
    keys: list[dict[str, Any]] = field(default_factory=list)
