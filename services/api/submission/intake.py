"""Acceptance of jobs: many requests, one statement.

Each request waits for the commit of the group that it joins, see `group_commit.py`.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import Struct

from services.api.group_commit import Groups
from services.api.jobs import endings, views
from services.api.jobs import store as job_store
from services.api.jobs.changes import SOME_CHANGE
from services.api.jobs.fields import FIELDS as GIVEN
from services.api.jobs.model import Attempt, Job, JobRules, first_attempt
from services.api.keys.caller import Caller
from services.api.secrets.sealing import Sealed, SecretKeys
from services.api.submission import idempotency_store as keys
from services.api.submission.idempotency_store import KeptAnswer
from services.api.submission.job_ids import JobIds
from services.api.submission.job_quotas import JobQuotaReached, find_refused
from services.api.submission.json_body import BadRequest
from services.api.submission.request import JobRequest
from shared.crash_points import Points
from shared.events import cloudevents
from shared.events.events import JobScheduled
from shared.log import get_logger
from shared.messaging.store import RELAY
from shared.postgres.pool import Connection, Database
from shared.postgres.wakeups import Wakeups
from shared.quota_settings import NO_QUOTAS, Quotas

_log = get_logger(service="api", part="intake")
_encode = msgspec.json.Encoder().encode

GROUP = 256
"""Jobs written by one statement, at most (a request of its own may bring more)."""

BESIDE = 2
"""Full groups written at once: the next one is composed while the database writes the last."""

WAITING = 10_000
"""The jobs that may wait for their group; further requests are refused."""

LOGGED = 100
"""The most jobs that one log line names."""

_STOPPING = "the service is stopping: send the request again, with an Idempotency-Key"


class KeyConflict(Exception):
    """The Idempotency-Key was used with another body."""


class Accepted(Struct, frozen=True):
    """A job that is committed, and the body of the answer to its request."""

    job_id: int
    answer: bytes


@dataclass(frozen=True)
class _Submission:
    job_requests: Sequence[JobRequest]
    trace: str
    caller: Caller
    rerun_of: int | None = None


class Intake:
    """Accepts jobs. `run` must be running for `accept` to return."""

    def __init__(
        self,
        db: Database,
        rules: JobRules,
        wakeups: Wakeups,
        points: Points,
        keys: SecretKeys | None,
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        self._db = db
        self._ids = JobIds(db.clock)
        self._keys = keys
        self._quotas = quotas
        self._rules = rules
        self._wakeups = wakeups
        self._points = points
        self._groups: Groups[_Submission, list[Accepted] | JobQuotaReached] = Groups(
            self._write_group,
            limit=GROUP,
            size=lambda submission: len(submission.job_requests),
            beside=BESIDE,
            most=WAITING,
            stopping=_STOPPING,
        )

    async def accept(
        self,
        job_requests: Sequence[JobRequest],
        trace: str,
        caller: Caller,
        rerun_of: int | None = None,
    ) -> list[Accepted]:
        """Commit the jobs of *caller*, all or none; return when they are durable.

        *rerun_of*: the id of the job that they run again. Raises `Stopping`, `Overloaded` and
        `JobQuotaReached`.
        """
        submission = _Submission(job_requests, trace, caller, rerun_of)
        accepted = await self._groups.join(submission)
        if isinstance(accepted, JobQuotaReached):
            raise accepted
        return accepted

    async def accept_once(
        self,
        key: str,
        body: bytes,
        read: Callable[[], Awaitable[JobRequest]],
        trace: str,
        caller: Caller,
        rerun_of: int | None = None,
    ) -> Accepted:
        """Commit the job that *read* reads; return the first answer again if *key* was used.

        *body* is read only if *key* is new: when it is repeated its time may be in the past.
        Raises `KeyConflict` if the key was used with another body, and what *read* raises.
        """
        body_hash = hashlib.sha256(body).digest()
        async with self._db.connection() as conn:
            kept = await keys.find_key(conn, key)
        if kept is None:
            submission = _Submission([await read()], trace, caller, rerun_of)
            kept = await self._claim(key, body_hash, submission)
        if kept.body_hash != body_hash:
            raise KeyConflict(
                "Idempotency-Key was used before with another body: use a new key for a new job"
            )
        return Accepted(kept.job_id, kept.answer)

    async def _claim(self, key: str, body_hash: bytes, submission: _Submission) -> KeptAnswer:
        async with self._db.transaction() as tx:
            [job_id] = await self._ids.take(tx.conn, 1)
            written = self._compose(submission, [job_id], tx.now)
            kept = KeptAnswer(body_hash, job_id, written[0].answer)
            ours = await keys.claim_key(tx, key, kept)
            if ours:
                [refused] = await self._find_refused(tx.conn, [submission])
                if refused is not None:
                    raise refused  # and nothing is kept of the key
                await _write(tx.conn, written)
            first = kept if ours else await keys.find_key(tx.conn, key)
        if ours:
            # A crash here loses only the answer: its client repeats the key, and gets it then.
            self._points.reached("api.accepted_once")
            self._wakeups.wake(RELAY, SOME_CHANGE)
        if first is None:
            raise BadRequest("Idempotency-Key has just expired: send the request again")
        return first

    async def run(self) -> None:
        """Write group after group until cancelled; the waiting requests fail then."""
        await self._groups.run()

    async def _write_group(
        self, group: Sequence[_Submission]
    ) -> list[list[Accepted] | JobQuotaReached]:
        async with self._begin() as conn:
            refused = await self._find_refused(conn, group)
            admitted = [each for each, why in zip(group, refused, strict=True) if why is None]
            composed = await self._compose_all(conn, admitted)
            if composed:
                await _write(conn, [each for written in composed for each in written])
        self._points.reached("api.accepted")
        _log_accepted([each.job.id for written in composed for each in written])
        self._wakeups.wake(RELAY, SOME_CHANGE)
        accepted = ([Accepted(each.job.id, each.answer) for each in own] for own in composed)
        return [next(accepted) if why is None else why for why in refused]

    @contextlib.asynccontextmanager
    async def _begin(self) -> AsyncIterator[Connection]:
        """Lend a connection: in a transaction, where a quota is to hold until the jobs are."""
        if not self._quotas.limit_jobs:
            async with self._db.connection() as conn:
                yield conn
        else:
            async with self._db.transaction() as tx:
                yield tx.conn

    async def _find_refused(
        self, conn: Connection, group: Sequence[_Submission]
    ) -> list[JobQuotaReached | None]:
        if not self._quotas.limit_jobs:
            return [None] * len(group)
        submissions = [(each.caller.key, len(each.job_requests)) for each in group]
        return await find_refused(conn, submissions, self._quotas)

    async def _compose_all(
        self, conn: Connection, group: Sequence[_Submission]
    ) -> "list[list[_Written]]":
        now = self._db.clock.now()
        ids = await self._ids.take(conn, sum(len(each.job_requests) for each in group))
        composed = []
        for each in group:
            count = len(each.job_requests)
            own, ids = ids[:count], ids[count:]
            composed.append(self._compose(each, own, now))
        return composed

    def _compose(
        self, submission: _Submission, ids: Sequence[int], now: datetime
    ) -> "list[_Written]":
        return [
            _compose_one(
                _job_of(each, job_id, now, submission),
                each,
                self._rules,
                self._keys,
                self._db.source,
            )
            for each, job_id in zip(submission.job_requests, ids, strict=True)
        ]


@dataclass(frozen=True)
class _Written:
    job: Job
    attempt: Attempt
    fact: cloudevents.Envelope[JobScheduled]
    answer: bytes
    sealed: Sealed | None


def _job_of(job_request: JobRequest, job_id: int, now: datetime, submission: _Submission) -> Job:
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


def _compose_one(
    job: Job, job_request: JobRequest, rules: JobRules, keys: SecretKeys | None, source: str
) -> _Written:
    attempt = first_attempt(job.id, job.scheduled_for, job.created_at)
    scheduled = endings.job_scheduled(job, attempt, rules)
    fact = cloudevents.wrap(scheduled, source=source, at=job.created_at, trace=job.trace)
    shown = views.fresh(job, attempt, rules)
    secrets = job_request.secret_env
    sealed = keys.seal(job.id, secrets) if keys and secrets else None
    return _Written(job, attempt, fact, _encode(shown), sealed)


def _log_accepted(ids: Sequence[int]) -> None:
    # A line beyond 4 KiB (PIPE_BUF) may be torn by one of another process on the same pipe.
    for start in range(0, len(ids), LOGGED):
        _log.info("job accepted", jobs=ids[start : start + LOGGED])


async def _write(conn: Connection, written: Sequence[_Written]) -> None:
    await job_store.accept_jobs(
        conn,
        [each.job for each in written],
        [each.attempt for each in written],
        [each.fact for each in written],
        {each.job.id: each.sealed for each in written if each.sealed is not None},
    )
