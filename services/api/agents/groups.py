"""Calls of many agents, served in one transaction.

A group waits for no lock: a call whose job is locked is served again by itself, and waits alone.
Jobs are locked first, in the order of their ids, and each write of an attempt needs its job's lock,
so there are no deadlocks. A plain heartbeat locks no job, and shares no transaction with calls that
do.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from services.api.agents import store as agent_store
from services.api.agents.refusals import NO_TOKEN, Refused
from services.api.agents.store import Overtaken, ProofUse
from services.api.group_commit import Groups
from services.api.jobs import breaker_store, unit_of_work
from services.api.jobs import store as job_store
from services.api.jobs.changes import of_job
from services.api.jobs.model import Attempt, Job, JobWithAttempts, Step
from services.api.jobs.reception import Arrivals
from services.api.jobs.store import Bearer, Beat, Owner
from services.api.logs import store as log_store
from services.api.logs.store import LogBatch
from shared import request_ids
from shared.events import cloudevents
from shared.postgres.pool import Database, Transaction
from shared.postgres.wakeups import Wakeups

GROUP = 128
"""The most calls of one transaction; long reports count more than one."""

WAITING = 4096
"""The calls that may wait for a group, long reports counting more than one; and so many beats."""

_STOPPING = "the service is stopping: try again"

Answer = TypeVar("Answer")


class AgentCall(Struct, Generic[Answer], frozen=True, kw_only=True):
    """One call of an agent: the rows that it needs, and its decision.

    `decide` raises `Refused` before it has changed anything in the unit of work. A `Refused` that
    it returns is raised after the commit of what the call has changed nevertheless.

    Token or identity are verified already. `claimant` is the instance of a claim.
    """

    decide: "Callable[[AgentUnitOfWork], Answer | Refused]"
    token_hash: bytes
    claims: bool = False
    job_id: int | None = None
    instance_id: str | None = None
    claimant: str | None = None
    signature: bytes | None = None
    size: int = 1
    request_id: str | None = field(default_factory=request_ids.current)


class _Busy(Exception):
    """The job is locked by another transaction."""


class AgentUnitOfWork:
    """One transaction that serves a group: the rows loaded at its start, and the changes."""

    def __init__(
        self,
        tx: Transaction,
        bearers: dict[bytes, Bearer],
        instances: dict[str, Owner],
        used: dict[bytes, bytes],
        work: unit_of_work.UnitOfWork,
        *,
        whole: bool,
    ) -> None:
        self.now = tx.now
        self.bearers = bearers
        self.instances = instances
        self.used = used
        self.before_commit: list[Callable[[], None]] = []
        self.after_commit: list[Callable[[], None]] = []
        self._facts: list[cloudevents.Envelope[Any]] = []
        self._tx = tx
        self._work = work
        self._whole = whole
        self._uses: dict[bytes, ProofUse] = {}
        self._alive: dict[Owner, bool] = {}  # and whether a detail of the phase came too
        self._batches: list[LogBatch] = []
        self._booted = False

    def owner(self, token_hash: bytes, job_id: int) -> Owner:
        """Return the token's owner. Raises the same for unknown jobs, wrong and expired tokens."""
        return owner_of(self.bearers.get(token_hash), job_id)

    def find(self, job_id: int) -> JobWithAttempts | None:
        """Return a job with its attempts, as changed so far."""
        whole_job = self._work.find(job_id)
        if whole_job is None and not self._whole:
            raise _Busy
        return whole_job

    def take(self, before: Job, step: Step) -> None:
        """Apply a decision, and publish its events under the job's own trace."""
        self._work.take(step)
        self._facts += [
            cloudevents.wrap(each, source=self._tx.source, at=self.now, trace=before.trace)
            for each in step.events
        ]

    def bind(self, token_hash: bytes, owner: Owner) -> None:
        """Bind the token for the group's later calls: the agent's instance has booted."""
        self._booted = True
        self.bearers[token_hash] = Bearer(owner, good=True)

    def use(self, use: ProofUse) -> None:
        """Record a used signature."""
        self.used[use.signature] = use.token_hash
        self._uses[use.signature] = use

    def beat(self, alive: Attempt, detail: str | None = None) -> None:
        """Record the heartbeat of *alive*, and its phase's *detail*; no other column is written."""
        owner = Owner(alive.job_id, alive.number)
        if detail is not None:
            alive = replace(alive, phase_detail=detail)
        self._work.note(alive)
        self._alive[owner] = detail is not None or self._alive.get(owner, False)

    def keep(self, batch: LogBatch) -> None:
        """Keep log lines, which are a heartbeat too, counted for the group's later calls."""
        whole_job = self._work.find(batch.owner.job_id)
        if whole_job is not None:
            self._work.note(batch.counted_in(whole_job.attempt(batch.owner.attempt)))
        self._batches.append(batch)

    async def save(self) -> None:
        """Write all changes. Raises `Overtaken`."""
        with agent_store.noticing_overtakers():
            await self._work.save(self._tx, self._facts)
        if self._uses:
            await agent_store.use_proofs(self._tx, list(self._uses.values()))
        await job_store.beat_locked(self._tx, self._beats())
        self._tx.wakes.update(of_job(each.owner.job_id) for each in self._batches)
        left = self._batches
        while left:  # a second batch of one attempt is rare, and must find the first one written
            first = {each.owner: each for each in reversed(left)}
            await log_store.keep_batches(self._tx, list(first.values()))
            left = [each for each in left if first[each.owner] is not each]
        if self._booted and self._work.failed_boots:
            await breaker_store.forget_failed(self._tx)

    def _beats(self) -> dict[Owner, str | None]:
        """Return the heartbeats to write, and the details; a batch of lines is a heartbeat too."""
        keeping = {each.owner for each in self._batches}
        return {
            owner: self._detail(owner) if detailed else None
            for owner, detailed in self._alive.items()
            if detailed or owner not in keeping
        }

    def _detail(self, owner: Owner) -> str | None:
        """Return the detail, None if a later call of the group has ended its phase."""
        whole_job = self._work.find(owner.job_id)
        return None if whole_job is None else whole_job.attempt(owner.attempt).phase_detail


class AgentGroups:
    """Serves agents' calls while `run` runs."""

    def __init__(
        self,
        db: Database,
        lifetime_seconds: int,
        wakeups: Wakeups,
        arrivals: Arrivals,
    ) -> None:
        self._db = db
        self._lifetime = lifetime_seconds
        self._wakeups = wakeups
        self._arrivals = arrivals
        self._calls: Groups[AgentCall[Any], Any] = Groups(
            self._serve_free,
            limit=GROUP,
            size=lambda call: call.size,
            most=WAITING,
            stopping=_STOPPING,
        )
        self._beats: Groups[Beat, bool] = Groups(
            self._beat, limit=GROUP, most=WAITING, stopping=_STOPPING
        )

    async def serve(self, call: AgentCall[Answer]) -> Answer:
        """Serve *call*. Raises `Refused`, `Stopping` and `Overloaded`."""
        with self._arrivals.waiting(call.claimant or call.token_hash):
            outcome = await self._calls.join(call)
            if outcome is _Busy:
                if not call.claims and call.job_id is not None:
                    # It may wait for a sweep of another process, which sees no arrival, but this.
                    await self._beats.join(Beat(call.token_hash, call.job_id))
                [outcome] = await self._serve([call], whole=True)
        if isinstance(outcome, Refused):
            raise outcome
        answer: Answer = outcome
        return answer

    async def beat(self, token_hash: bytes, job_id: int, detail: str | None = None) -> bool:
        """Record a plain heartbeat; return False if it was not recorded. Raises like `serve`."""
        self._arrivals.note(token_hash)
        return await self._beats.join(Beat(token_hash, job_id, detail))

    async def run(self) -> None:
        """Write group after group until cancelled; the waiting calls fail then."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._calls.run())
            loops.create_task(self._beats.run())

    async def _beat(self, beats: Sequence[Beat]) -> list[bool]:
        async with self._db.connection() as conn:
            taken = await job_store.beat_free(conn, beats, self._db.clock.now(), self._lifetime)
        return [(each.token_hash, each.job_id) in taken for each in beats]

    async def _serve_free(self, calls: Sequence[AgentCall[Any]]) -> list[Any]:
        return await self._serve(calls, whole=False)

    async def _serve(self, calls: Sequence[AgentCall[Any]], *, whole: bool) -> list[Any]:
        try:
            return await self._serve_once(calls, whole=whole)
        except Overtaken:  # by another process, whose commit is visible now
            return await self._serve_once(calls, whole=whole)

    async def _serve_once(self, calls: Sequence[AgentCall[Any]], *, whole: bool) -> list[Any]:
        async with self._db.transaction() as tx:
            unit = await self._load(tx, calls, whole=whole)
            outcome = [_decide(call, unit) for call in calls]
            await unit.save()
            for act in unit.before_commit:
                act()
        for act in unit.after_commit:
            act()
        self._wakeups.wake(*tx.wakes)
        return outcome

    async def _load(
        self, tx: Transaction, calls: Sequence[AgentCall[Any]], *, whole: bool
    ) -> AgentUnitOfWork:
        """Load the rows that *calls* need; *whole*: wait until all of their jobs are locked."""
        hashes = {each.token_hash for each in calls}
        bearers = await job_store.find_bearers(tx.conn, hashes, tx.now, self._lifetime)
        named = {each.instance_id for each in calls if each.instance_id is not None}
        signatures = {each.signature for each in calls if each.signature is not None}
        instances = await agent_store.find_instances(tx.conn, named) if named else {}
        used = await agent_store.find_proofs(tx.conn, signatures) if signatures else {}
        jobs = {each.job_id for each in calls if _may_lock(each, bearers)}
        jobs |= {each.job_id for each in instances.values()}
        locked = [each for each in jobs if each is not None]
        work = await (unit_of_work.open_unit_of_work if whole else unit_of_work.open_free)(
            tx, locked
        )
        return AgentUnitOfWork(tx, bearers, instances, used, work, whole=whole)


def owner_of(bearer: Bearer | None, job_id: int) -> Owner:
    """Return the token's owner if it is valid and for that job. Raises `Refused`."""
    if bearer is None or not bearer.good:
        raise Refused(401, NO_TOKEN)
    if bearer.owner.job_id != job_id:
        raise Refused(403, "this token belongs to another job")
    return bearer.owner


def _may_lock(call: AgentCall[Any], bearers: dict[bytes, Bearer]) -> bool:
    """Return whether the caller may lock the job: a claim's bootstrap token is already verified."""
    bearer = bearers.get(call.token_hash)
    return call.claims or (bearer is not None and bearer.owner.job_id == call.job_id)


def _decide(call: AgentCall[Any], unit: AgentUnitOfWork) -> Any:
    first = len(unit.after_commit)
    try:
        with request_ids.serving(call.request_id):
            return call.decide(unit)
    except Refused as refused:
        return refused
    except _Busy:
        return _Busy
    finally:
        own = unit.after_commit[first:]
        unit.after_commit[first:] = [functools.partial(_act, call.request_id, act) for act in own]


def _act(request_id: str | None, act: Callable[[], None]) -> None:
    with request_ids.serving(request_id):
        act()
