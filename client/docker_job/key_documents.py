"""The documents of API keys and of the audit trail, as `documents.py` has those of jobs."""

from dataclasses import dataclass, field
from datetime import datetime

from docker_job.documents import Document


@dataclass(frozen=True, kw_only=True)
class ApiKey(Document):
    """An API key. *key*, its text, is there only when it was made; keep it out of logs."""

    prefix: str
    name: str = ""
    scope: str = ""
    project: str = "default"
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class AuditEntry(Document):
    """An act: what was done, to which job or to what else, by which key and from where."""

    id: int
    action: str
    at: datetime | None = None
    key: str | None = None
    key_name: str | None = None
    project: str | None = None
    address: str = ""
    job_id: int | None = None
    subject: str | None = None
