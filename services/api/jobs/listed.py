"""A job as `GET /list` shows it."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from services.api.jobs.model import State, Status
from shared.events.causes import Cause


class ListedJob(Struct, frozen=True):
    """The columns of a job and its current attempt that `/list` shows; it renders as either.

    `attempts` to `cost_usd` are of all of its attempts. `given` has the fields of `columns.NAMES`;
    those that are JSON are left as text.
    """

    id: int
    status: Status
    attempt: int
    exit_code: int | None
    error_message: str | None
    created_at: datetime
    finished_at: datetime | None
    state: State
    phase_detail: str | None
    due_at: datetime
    waiting_because: str | None
    waiting_until: datetime | None
    retry_because: str | None
    check_at: datetime | None
    runtime: Literal["docker", "simulated"] | None
    heartbeat_at: datetime | None
    instance_id: str | None
    spot_instance_request_id: str | None
    cause: Cause | None
    running_at: datetime | None
    attempts: int
    started_at: datetime | None
    cost_usd: float | None
    given: dict[str, Any]

    @property
    def timeout_seconds(self) -> int | None:
        """As the client gave it."""
        seconds: int | None = self.given["timeout_seconds"]
        return seconds
