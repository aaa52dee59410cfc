"""Acceptance of jobs: many requests, one statement.

Each request waits for the commit of the group that it joins, see `group_commit.py`.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

from msgspec import Struct

from services.api.group_commit import Groups
from services.api.jobs.changes import SOME_CHANGE
from services.api.jobs.model import JobRules
from services.api.keys.caller import Caller
from services.api.secrets.sealing import SecretKeys
from services.api.shares import Shares
from services.api.submission import idempotency_store as keys
from services.api.submission.composing import (
    Submission,
    Written,
    compose,
    job_of,
    log_accepted,
    write,
)
from services.api.submission.idempotency_store import KeptAnswer
from services.api.submission.job_ids import JobIds
from services.api.submission.job_quotas import JobQuotaReached, find_refused
from services.api.submission.json_body import BadRequest
from services.api.submission.request import JobRequest
from shared.crash_points import Points
from shared.events.requirements import DEFAULT_PROJECT
from shared.messaging.store import RELAY
from shared.postgres.pool import Connection, Database
from shared.postgres.wakeups import Wakeups
from shared.quota_settings import NO_QUOTAS, Quotas

GROUP = 256
"""Jobs written by one statement, at most (a request of its own may bring more)."""

BESIDE = 2
"""Full groups written at once: the next one is composed while the database writes the last."""

WAITING = 10_000
"""The jobs that may wait for their group; further requests are refused. Keys share them."""

_TOO_MANY = "too many jobs wait for the database: try again"
_STOPPING = "the service is stopping: send the request again, with an Idempotency-Key"


class KeyConflict(Exception):
    """The Idempotency-Key was used with another body."""


class Accepted(Struct, frozen=True):
    """A job that is committed, and the body of the answer to its request."""

    job_id: int
    answer: bytes


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
        self._groups: Groups[Submission, list[Accepted] | JobQuotaReached] = Groups(
            self._write_group,
            limit=GROUP,
            size=lambda submission: len(submission.job_requests),
            beside=BESIDE,
            most=WAITING,
            stopping=_STOPPING,
        )
        self._shares = Shares(WAITING, _TOO_MANY)

    async def accept(
        self,
        job_requests: Sequence[JobRequest],
        trace: str,
        caller: Caller,
        rerun_of: int | None = None,
    ) -> list[Accepted]:
        """Commit the jobs of *caller*, all or none; return when they are durable.

        *rerun_of*: the id of the job that they run again. Raises `ShareUsed`, `Stopping`,
        `Overloaded` and `JobQuotaReached`.
        """
        submission = Submission(job_requests, trace, caller, rerun_of)
        with self._shares.holding(caller.key, len(job_requests)):
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
        """Commit the job that *read* reads; return the first answer if *caller* has used *key*.

        *body* is read only if *key* is new: when it is repeated its time may be in the past.
        Raises `KeyConflict` if the key was used with another body, `ShareUsed`, and what *read*
        raises.
        """
        body_hash = hashlib.sha256(body).digest()
        kept_as = keys.kept_as(key, caller.key)
        with self._shares.holding(caller.key):
            async with self._db.connection() as conn:
                kept = await keys.find_key(conn, kept_as)
                if kept is None and caller.key is not None and caller.project == DEFAULT_PROJECT:
                    kept = await keys.find_key_of_release_before(conn, key, body_hash)
            if kept is None:
                submission = Submission([await read()], trace, caller, rerun_of)
                kept = await self._claim(kept_as, body_hash, submission)
        if kept.body_hash != body_hash:
            raise KeyConflict(
                "Idempotency-Key was used before with another body: use a new key for a new job"
            )
        return Accepted(kept.job_id, kept.answer)

    async def _claim(self, key: str, body_hash: bytes, submission: Submission) -> KeptAnswer:
        async with self._db.transaction() as tx:
            [job_id] = await self._ids.take(tx.conn, 1)
            written = self._compose(submission, [job_id], tx.now)
            kept = KeptAnswer(body_hash, job_id, written[0].answer)
            ours = await keys.claim_key(tx, key, kept)
            if ours:
                [refused] = await self._find_refused(tx.conn, [submission])
                if refused is not None:
                    raise refused  # and nothing is kept of the key
                await write(tx.conn, written)
            first = kept if ours else await keys.find_key(tx.conn, key)
        if ours:
            # A crash here loses only the answer: its client repeats the key, and gets it then.
            self._points.reached("api.accepted_once")
            log_accepted([submission], [written])
            self._wakeups.wake(RELAY, SOME_CHANGE)
        if first is None:
            raise BadRequest("Idempotency-Key has just expired: send the request again")
        return first

    async def run(self) -> None:
        """Write group after group until cancelled; the waiting requests fail then."""
        await self._groups.run()

    async def _write_group(
        self, group: Sequence[Submission]
    ) -> list[list[Accepted] | JobQuotaReached]:
        async with self._begin() as conn:
            refused = await self._find_refused(conn, group)
            admitted = [each for each, why in zip(group, refused, strict=True) if why is None]
            composed = await self._compose_all(conn, admitted)
            if composed:
                await write(conn, [each for written in composed for each in written])
        self._points.reached("api.accepted")
        log_accepted(admitted, composed)
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
        self, conn: Connection, group: Sequence[Submission]
    ) -> list[JobQuotaReached | None]:
        if not self._quotas.limit_jobs:
            return [None] * len(group)
        submissions = [(each.caller.key, len(each.job_requests)) for each in group]
        return await find_refused(conn, submissions, self._quotas)

    async def _compose_all(
        self, conn: Connection, group: Sequence[Submission]
    ) -> "list[list[Written]]":
        now = self._db.clock.now()
        ids = await self._ids.take(conn, sum(len(each.job_requests) for each in group))
        composed = []
        for each in group:
            count = len(each.job_requests)
            own, ids = ids[:count], ids[count:]
            composed.append(self._compose(each, own, now))
        return composed

    def _compose(
        self, submission: Submission, ids: Sequence[int], now: datetime
    ) -> "list[Written]":
        return [
            compose(
                job_of(each, job_id, now, submission),
                each,
                submission,
                self._rules,
                self._keys,
                self._db.source,
            )
            for each, job_id in zip(submission.job_requests, ids, strict=True)
        ]
