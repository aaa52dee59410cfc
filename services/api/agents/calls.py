"""Reports and callbacks of agents, each about its own attempt (`claims.py` has the claims).

The attempt's token authorizes them while the attempt is the job's current one. Otherwise the call
is `Refused` and changes nothing; but until the container of an ended attempt has had the time to
stop (`endings.may_add`), its log lines and exit code are kept. `docs/agent-protocol.md` describes
the protocol.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from services.api.agents.groups import AgentCall, AgentGroups, AgentUnitOfWork, owner_of
from services.api.agents.refusals import NO_TOKEN, Refused
from services.api.agents.settings import AgentsConfig
from services.api.jobs import decisions, interruptions
from services.api.jobs import store as job_store
from services.api.jobs.endings import decide_end, decide_exit_code, may_add
from services.api.jobs.model import TERMINAL, Attempt, AttemptEnding, Job, JobWithAttempts, Step
from services.api.jobs.store import Owner
from services.api.keys.failures import Failures
from services.api.keys.rates import RateLimit
from services.api.logs.bounds import Amount, Line, decide_kept
from services.api.logs.store import LogBatch
from shared import tokens
from shared.clock import Clock
from shared.crash_points import Points
from shared.events.causes import Cause
from shared.log import get_logger
from shared.postgres.pool import Connection, Database

_log = get_logger(service="api", part="agents")

REMEMBER_SECONDS = 60.0
REMEMBERED_TOKENS = 10_000

LINES_OF_ONE = 100
"""A report of more lines than this counts as several in its group."""


class Report(Struct, frozen=True, kw_only=True):
    """A heartbeat, with a phase or its detail, log lines or a rebalance recommendation."""

    phase: str | None = None
    detail: str | None = None
    rebalance: bool = False
    seq: int | None = None
    lines: tuple[Line, ...] = ()
    left_out: Amount = Amount()


class Callback(Struct, frozen=True, kw_only=True):
    """An agent's callback: an interruption notice, or the end of its attempt."""

    cause: Cause
    stopped: bool
    exit_code: int | None = None
    message: str | None = None
    for_good: bool = False


class Admitted:
    """A cache of tokens that belong to their job: it saves most heartbeats a query.

    An outdated entry is harmless: the token is checked again when the body is processed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[tuple[bytes, int], float] = {}

    def add(self, token_hash: bytes, job_id: int) -> None:
        """Add a token for `REMEMBER_SECONDS`."""
        if len(self._since) >= REMEMBERED_TOKENS:
            self._since.clear()
        self._since[token_hash, job_id] = self._clock.now().timestamp()

    def has(self, token_hash: bytes, job_id: int) -> bool:
        """Return whether the token is cached."""
        since = self._since.get((token_hash, job_id), float("-inf"))
        return self._clock.now().timestamp() - since < REMEMBER_SECONDS


@dataclass(frozen=True)
class AgentService:
    """Reports and callbacks."""

    config: AgentsConfig
    db: Database
    groups: AgentGroups
    admitted: Admitted
    points: Points
    jitter: Callable[[], float]
    failures: Failures
    rate: RateLimit

    async def admit(self, bearer: str, job_id: int, address: str = "") -> None:
        """Refuse a token that is not the job's, before its body is read. Raises `TooMany`."""
        token_hash = tokens.token_hash(bearer)
        if not self.admitted.has(token_hash, job_id):
            async with self.failures.looking_up(address, token_hash), self.db.connection() as conn:
                await self._owner(conn, token_hash, job_id)
            self.admitted.add(token_hash, job_id)
        self.rate.take(f"token/{token_hash.hex()}")

    async def report(self, bearer: str, job_id: int, report: Report) -> None:
        """Record a heartbeat, a phase and log lines."""
        token_hash = tokens.token_hash(bearer)
        if report == Report(detail=report.detail):
            if not await self.groups.beat(token_hash, job_id, report.detail):
                await self._beat_alone(token_hash, job_id, report.detail)
            return
        await self.groups.serve(
            AgentCall(
                decide=lambda unit: self._take_report(unit, token_hash, job_id, report),
                token_hash=token_hash,
                job_id=job_id,
                size=1 + len(report.lines) // LINES_OF_ONE,
            )
        )

    async def _beat_alone(self, token_hash: bytes, job_id: int, detail: str | None) -> None:
        """Record a heartbeat once the attempt's row is unlocked. Raises `Refused`.

        Without the job's lock: the failed beat may hold the attempt's row, and decisions lock the
        two in the other order.
        """
        async with self.db.transaction() as tx:
            owner = await self._owner(tx.conn, token_hash, job_id)
            if await job_store.beat(tx, owner, detail):
                return
            attempt = await job_store.load_attempt(tx.conn, owner.job_id, owner.attempt)
            raise Refused(401, NO_TOKEN) if attempt is None else _over(attempt)

    def _take_report(
        self, unit: AgentUnitOfWork, token_hash: bytes, job_id: int, report: Report
    ) -> Refused | None:
        whole_job, attempt = _find(unit, unit.owner(token_hash, job_id))
        refused = _refused_as_over(whole_job.job, attempt)
        if refused is not None and not (report.lines and may_add(attempt, unit.now)):
            raise refused
        if refused is None:
            self._apply_report(unit, whole_job, replace(attempt, heartbeat_at=unit.now), report)
        self._keep_lines(unit, attempt, report)
        # Raised only after the commit: the lines are kept, and the response stops the agent.
        return None if refused is None else _over(attempt, kept=True)

    def _apply_report(
        self, unit: AgentUnitOfWork, whole_job: JobWithAttempts, alive: Attempt, report: Report
    ) -> None:
        step = self._decide_report(whole_job, alive, report, unit.now)
        if step is None:
            unit.beat(alive, report.detail)
            return
        unit.take(whole_job.job, step)
        unit.after_commit.append(
            lambda: _log.info(
                "attempt moved", job=alive.job_id, attempt=alive.number, phase=report.phase
            )
        )

    def _decide_report(
        self, whole_job: JobWithAttempts, alive: Attempt, report: Report, now: datetime
    ) -> Step | None:
        if report.rebalance:  # never beside a phase, see `requests.read_report`
            return interruptions.decide_rebalance(
                whole_job, alive, now, self.jitter(), self.config.rules
            )
        if report.phase is None:
            return None
        return decisions.decide_phase(whole_job.job, alive, report.phase, now)

    def _keep_lines(self, unit: AgentUnitOfWork, attempt: Attempt, report: Report) -> None:
        """Keep the lines within the attempt's bound, unless their batch was taken before."""
        if not report.lines or report.seq is None or report.seq <= attempt.log_seq:
            return
        limit = self.config.agent.log_limit_bytes
        kept = decide_kept(attempt, report.lines, report.left_out, limit)
        unit.keep(LogBatch(Owner(attempt.job_id, attempt.number), report.seq, kept))

    async def call_back(self, bearer: str, job_id: int, callback: Callback) -> Job:
        """Apply a callback. A repeated one changes nothing.

        It gets the same response as long as no further attempt exists.
        """
        token_hash = tokens.token_hash(bearer)
        return await self.groups.serve(
            AgentCall(
                decide=lambda unit: self._take_callback(unit, token_hash, job_id, callback),
                token_hash=token_hash,
                job_id=job_id,
            )
        )

    def _take_callback(
        self, unit: AgentUnitOfWork, token_hash: bytes, job_id: int, callback: Callback
    ) -> Job | Refused:
        whole_job, attempt = _find(unit, unit.owner(token_hash, job_id))
        job = whole_job.job
        if attempt.number == job.attempt and _reported_before(attempt, callback):
            return job
        refused = _refused_as_over(job, attempt)
        if refused is not None:
            refused = _keep_exit_code(unit, job, attempt, callback) or refused
        elif step := self._decide(whole_job, attempt, callback, unit.now):
            unit.take(job, step)
            job = step.job
        outcome = refused or job
        unit.before_commit.append(lambda: self.points.reached("api.callback_before_commit"))
        unit.after_commit.append(lambda: self._called_back(attempt, callback, outcome))
        return outcome

    def _called_back(self, attempt: Attempt, callback: Callback, outcome: Job | Refused) -> None:
        # A crash here loses only the response: the agent repeats the call, which is recorded.
        self.points.reached("api.callback_committed")
        if isinstance(outcome, Refused):
            return
        _log.info(
            "agent called back",
            job=outcome.id,
            attempt=attempt.number,
            cause=callback.cause,
            exit_code=callback.exit_code,
            status=outcome.status,
        )

    def _decide(
        self, whole_job: JobWithAttempts, attempt: Attempt, callback: Callback, now: datetime
    ) -> Step | None:
        rules, jitter = self.config.rules, self.jitter()
        if callback.cause == "interrupted" and not callback.stopped:
            return interruptions.decide_interrupted(whole_job, attempt, now, jitter, rules)
        ending = AttemptEnding(
            cause=callback.cause,
            message=callback.message,
            exit_code=callback.exit_code,
            container_stopped=callback.stopped,
            for_good=callback.for_good,
        )
        return decide_end(whole_job, attempt, ending, now, jitter, rules)

    async def _owner(self, conn: Connection, token_hash: bytes, job_id: int) -> Owner:
        lifetime = self.config.rules.max_lifetime_seconds
        now = self.db.clock.now()
        bearers = await job_store.find_bearers(conn, [token_hash], now, lifetime)
        return owner_of(bearers.get(token_hash), job_id)


def _find(unit: AgentUnitOfWork, owner: Owner) -> tuple[JobWithAttempts, Attempt]:
    whole_job = unit.find(owner.job_id)
    if whole_job is None:
        raise Refused(401, NO_TOKEN)
    return whole_job, whole_job.attempt(owner.attempt)


def _keep_exit_code(
    unit: AgentUnitOfWork, job: Job, attempt: Attempt, callback: Callback
) -> Refused | None:
    """Record the exit code of an ended attempt's container; None if it may not be added."""
    if not callback.stopped or callback.exit_code is None:
        return None
    step = decide_exit_code(job, attempt, callback.exit_code, unit.now)
    if step is None:
        return None
    if step.attempts:
        unit.take(job, step)
    return _over(attempt, kept=True)


def must_be_current(job: Job, attempt: Attempt) -> None:
    """Raise `Refused` if *attempt* can no longer change the job."""
    refused = _refused_as_over(job, attempt)
    if refused is not None:
        raise refused


def _refused_as_over(job: Job, attempt: Attempt) -> Refused | None:
    if attempt.state == "ended" or attempt.number != job.attempt or job.status in TERMINAL:
        return _over(attempt)
    return None


def _over(attempt: Attempt, *, kept: bool = False) -> Refused:
    cause = attempt.cause
    message = f"attempt {attempt.number} is over" + (f": {cause}" if cause else "")
    return Refused(409, message, cause=cause, kept=kept)


def _reported_before(attempt: Attempt, callback: Callback) -> bool:
    """Return whether this callback was applied before."""
    if attempt.state == "ended":
        return attempt.cause == callback.cause and attempt.exit_code == callback.exit_code
    return (
        callback.cause == "interrupted"
        and not callback.stopped
        and attempt.interrupted_at is not None
    )
