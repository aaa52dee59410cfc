"""New jobs as they are written: rows, event, answer, and the entry of the audit trail."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from services.api.audit import acts
from services.api.audit.acts import Action, Actor
from services.api.jobs import endings, views
from services.api.jobs import store as job_store
from services.api.jobs.fields import FIELDS as GIVEN
from services.api.jobs.model import Attempt, Job, JobRules, first_attempt
from services.api.keys.caller import Caller
from services.api.secrets.sealing import Sealed, SecretKeys
from services.api.submission.request import JobRequest
from shared import request_ids
from shared.events import cloudevents
from shared.events.events import JobScheduled
from shared.postgres.pool import Connection

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Submission:
    """The jobs of one request, and its sender."""

    job_requests: Sequence[JobRequest]
    trace: str
    caller: Caller
    rerun_of: int | None = None
    request_id: str | None = field(default_factory=request_ids.current)

    @property
    def action(self) -> Action:
        """The action in the audit trail."""
        return "job.schedule" if self.rerun_of is None else "job.rerun"


@dataclass(frozen=True)
class Written:
    """All that is written of a new job, and the body of the answer."""

    job: Job
    attempt: Attempt
    fact: cloudevents.Envelope[JobScheduled]
    answer: bytes
    sealed: Sealed | None
    act: tuple[Actor, Action]


def job_of(job_request: JobRequest, job_id: int, now: datetime, submission: Submission) -> Job:
    """Make the job of *job_request*, one of *submission*, accepted at *now*."""
    return Job(
        **{name: getattr(job_request, name) for name in GIVEN},
        id=job_id,
        secret_env=sorted(job_request.secret_env),
        rerun_of=submission.rerun_of,
        project=submission.caller.project,
        created_by=submission.caller.key,
        status="SCHEDULED",
        attempt=1,
        trace=submission.trace,
        created_at=now,
    )


def compose(
    job: Job,
    job_request: JobRequest,
    submission: Submission,
    rules: JobRules,
    keys: SecretKeys | None,
    source: str,
) -> Written:
    """Compose all that is written of *job*; *keys* seal its secrets, *source* is ours in events."""
    attempt = first_attempt(job.id, job.scheduled_for, job.created_at)
    scheduled = endings.job_scheduled(job, attempt, rules)
    fact = cloudevents.wrap(scheduled, source=source, at=job.created_at, trace=job.trace)
    shown = views.fresh(job, attempt, rules)
    secrets = job_request.secret_env
    sealed = keys.seal(job.id, secrets) if keys and secrets else None
    act = submission.caller.actor, submission.action
    return Written(job, attempt, fact, _encode(shown), sealed, act)


def log_accepted(group: Sequence[Submission], composed: Sequence[Sequence[Written]]) -> None:
    """Log the jobs, those of one caller together, each with its request's id at the same place."""
    pairs: dict[tuple[Actor, Action], list[tuple[int, str | None]]] = {}
    for submission, written in zip(group, composed, strict=True):
        act = submission.caller.actor, submission.action
        accepted = ((each.job.id, submission.request_id) for each in written)
        pairs.setdefault(act, []).extend(accepted)
    for act, jobs in pairs.items():
        acts.log(*act, [job_id for job_id, _ in jobs], request_ids=[each for _, each in jobs])


async def write(conn: Connection, written: Sequence[Written]) -> None:
    """Write the jobs in one statement, and so in one transaction at least."""
    await job_store.accept_jobs(
        conn,
        [each.job for each in written],
        [each.attempt for each in written],
        [each.fact for each in written],
        {each.job.id: each.sealed for each in written if each.sealed is not None},
        [each.act for each in written],
    )
