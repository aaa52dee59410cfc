"""The result of a rehearsal as values: what the system shows, and what the cloud shows."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from fake_aws.ledger import Bill
from rehearsal.outboxes import PublishedEvent

Job = dict[str, Any]
"""A job in the form of `GET /status/{id}`."""

Causes = tuple[str, ...]
"""Why each attempt of a job must have ended, in their order."""


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of a scenario, from the system and from the cloud."""

    posted_at: datetime
    expected: dict[int, Causes]
    """By job id."""
    jobs: list[Job]
    events: list[PublishedEvent]
    bills: list[Bill]
    left: list[str]
    """The ids of instances that are not terminated in EC2."""

    @property
    def attempts(self) -> dict[str, Job]:
        """The attempt of each instance, in the form of `/status`, with its job's id."""
        return {
            each["instance_id"]: {**each, "job_id": job["id"]}
            for job in self.jobs
            for each in job["attempts"]
            if each["instance_id"] is not None
        }

    def sum_of(self, name: str) -> float | None:
        """Return the sum of an amount over all jobs; None if one is unknown."""
        amounts = [job[name] for job in self.jobs]
        return None if None in amounts else sum(amounts)
