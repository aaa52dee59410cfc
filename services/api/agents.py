"""What an agent may do for its attempt, and only for it: report and call back (`claims.py`: claim).

Whoever holds the attempt's token speaks for the attempt while it is the job's current one. Anybody
else is answered with `Refused`, and nothing changes; but until the stop of an ended attempt is over
(`endings.may_add`), its log lines and its exit code are kept. `docs/agent-protocol.md` is the other
side of this.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import replace

from services.api import decisions
from services.api.config import ApiConfig
from services.api.endings import decide_end, decide_exit_code, may_add
from services.api.log_bounds import Amount, Line, decide_kept
from services.api.model import TERMINAL, Attempt, Case, Ending, Job, Step
from services.api.refused import Refused
from services.api.store import jobs as store
from services.api.store import logs, steps
from services.api.store.jobs import Owner
from shared import tokens
from shared.db import Database, Transaction
from shared.events import Cause
from shared.log import get_logger
from shared.points import Points
from shared.wakeups import Wakeups

_log = get_logger(service="api", part="agents")

REMEMBER_SECONDS = 60.0
REMEMBERED_TOKENS = 10_000

NO_TOKEN = "give the attempt's token as 'Authorization: Bearer …'"  # noqa: S105 - a message


class Report(Struct, frozen=True, kw_only=True):
    """A heartbeat, and what else there is to tell."""

    phase: str | None = None
    rebalance: bool = False
    seq: int | None = None
    lines: tuple[Line, ...] = ()
    left_out: Amount = Amount()


class Callback(Struct, frozen=True, kw_only=True):
    """An agent's word on how its attempt stands or ended."""

    cause: Cause
    stopped: bool
    exit_code: int | None = None
    message: str | None = None
    for_good: bool = False


@dataclass(frozen=True)
class AgentDesk:
    """Serves agents. `changed` is told the id of each job that may look different now."""

    config: ApiConfig
    db: Database
    wakeups: Wakeups
    points: Points
    changed: Callable[[int], None]
    jitter: Callable[[], float]
    _admitted: dict[tuple[bytes, int], float] = field(default_factory=dict)

    async def admit(self, bearer: str, job_id: int) -> None:
        """Refuse a token that is not the job's, before the body that comes with it is read.

        What is done with the body checks the token again. So it does no harm that a good one is
        remembered for `REMEMBER_SECONDS`, which saves most heartbeats a transaction.
        """
        known = tokens.token_hash(bearer), job_id
        seconds = self.db.clock.now().timestamp()
        if seconds - self._admitted.get(known, float("-inf")) < REMEMBER_SECONDS:
            return
        async with self.db.transaction() as tx:
            await self._owner(tx, bearer, job_id)
        if len(self._admitted) >= REMEMBERED_TOKENS:
            self._admitted.clear()
        self._admitted[known] = seconds

    async def report(self, bearer: str | None, job_id: int, report: Report) -> None:
        """Keep a sign of life, a phase and log lines."""
        async with self.db.transaction() as tx:
            owner = await self._owner(tx, bearer, job_id)
            if report == Report():
                if not await store.beat(tx, owner):
                    await self._say_over(tx, owner)
                return
            case = await self._load(tx, owner)
            attempt = case.attempt(owner.attempt)
            refused = _refused_as_over(case.job, attempt)
            if refused is not None and not (report.lines and may_add(attempt, tx.now)):
                raise refused
            step = None if refused else await self._take_report(tx, case, attempt, report)
            await self._keep_lines(tx, attempt, report)
        if step is not None:
            _log.info("attempt moved", job=job_id, attempt=owner.attempt, phase=report.phase)
            self.wakeups.wake("relay_outbox")
        self.changed(job_id)
        if refused is not None:  # only now: the lines are kept, and the agent is told to stop
            raise _over(attempt, kept=True)

    async def _take_report(
        self, tx: Transaction, case: Case, attempt: Attempt, report: Report
    ) -> Step | None:
        step = self._decide_report(case, replace(attempt, heartbeat_at=tx.now), report, tx.now)
        if step is None:
            await store.beat(tx, Owner(attempt.job_id, attempt.number))
        else:
            await steps.save_and_tell(tx, case.job, step)
        return step

    def _decide_report(
        self, case: Case, alive: Attempt, report: Report, now: datetime
    ) -> Step | None:
        if report.rebalance:  # never beside a phase, see `words.read_report`
            return decisions.decide_rebalance(case, alive, now, self.jitter(), self.config.rules)
        if report.phase is None:
            return None
        return decisions.decide_phase(case.job, alive, report.phase, now)

    async def _keep_lines(self, tx: Transaction, attempt: Attempt, report: Report) -> None:
        """Keep the lines within the attempt's bound, unless their batch was taken before."""
        if not report.lines or report.seq is None or report.seq <= attempt.log_seq:
            return
        limit = self.config.agent.log_limit_bytes
        kept = decide_kept(attempt, report.lines, report.left_out, limit)
        await logs.keep_batch(tx, Owner(attempt.job_id, attempt.number), report.seq, kept)

    async def call_back(self, bearer: str | None, job_id: int, word: Callback) -> Job:
        """Let the agent's word take effect.

        The same word again changes nothing, and is answered alike for as long as no attempt has
        followed.
        """
        async with self.db.transaction() as tx:
            owner = await self._owner(tx, bearer, job_id)
            case = await self._load(tx, owner)
            job, attempt = case.job, case.attempt(owner.attempt)
            if attempt.number == job.attempt and _said_before(attempt, word):
                return job
            refused = _refused_as_over(job, attempt)
            if refused is not None:
                refused = await self._keep_exit_code(tx, job, attempt, word) or refused
            elif step := self._decide(case, attempt, word, tx.now):
                await steps.save_and_tell(tx, job, step)
                job = step.job
            self.points.reached("api.callback_before_commit")
        # A crash here loses the answer only: the agent repeats its word and finds it heard.
        self.points.reached("api.callback_committed")
        if refused is not None:
            self.changed(job_id)
            raise refused
        _log.info(
            "agent called back",
            job=job_id,
            attempt=attempt.number,
            cause=word.cause,
            exit_code=word.exit_code,
            status=job.status,
        )
        self.wakeups.wake("relay_outbox")
        self.changed(job_id)
        return job

    async def _keep_exit_code(
        self, tx: Transaction, job: Job, attempt: Attempt, word: Callback
    ) -> Refused | None:
        """Record how the container of an ended attempt stopped; None where that is not taken."""
        if not word.stopped or word.exit_code is None:
            return None
        step = decide_exit_code(job, attempt, word.exit_code, tx.now)
        if step is None:
            return None
        if step.attempts:
            await steps.save_and_tell(tx, job, step)
        return _over(attempt, kept=True)

    def _decide(self, case: Case, attempt: Attempt, word: Callback, now: datetime) -> Step | None:
        rules, jitter = self.config.rules, self.jitter()
        if word.cause == "interrupted" and not word.stopped:
            return decisions.decide_interrupted(case, attempt, now, jitter, rules)
        ending = Ending(
            cause=word.cause,
            message=word.message,
            exit_code=word.exit_code,
            container_stopped=word.stopped,
            for_good=word.for_good,
        )
        return decide_end(case, attempt, ending, now, jitter, rules)

    async def _owner(self, tx: Transaction, bearer: str | None, job_id: int) -> Owner:
        """Whose token this is. An unknown job, a wrong and an expired token are answered alike."""
        if not bearer:
            raise Refused(401, NO_TOKEN)
        lifetime = self.config.rules.max_lifetime_seconds
        owner = await store.find_bearer(tx, tokens.token_hash(bearer), lifetime)
        if owner is None:
            raise Refused(401, NO_TOKEN)
        if owner.job_id != job_id:
            raise Refused(403, "this token is another job's")
        return owner

    async def _say_over(self, tx: Transaction, owner: Owner) -> NoReturn:
        """Tell what the attempt ended for.

        Without the job's lock: the failed beat may hold the attempt's row, and whoever decides
        takes the two in the other order.
        """
        attempt = await store.load_attempt(tx.conn, owner.job_id, owner.attempt)
        raise Refused(401, NO_TOKEN) if attempt is None else _over(attempt)

    async def _load(self, tx: Transaction, owner: Owner) -> Case:
        case = await store.lock_case(tx, owner.job_id)
        if case is None:
            raise Refused(401, NO_TOKEN)
        return case


def must_be_current(job: Job, attempt: Attempt) -> None:
    """Raise `Refused` where *attempt* cannot change anything any more."""
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


def _said_before(attempt: Attempt, word: Callback) -> bool:
    """Whether this word has taken effect already."""
    if attempt.state == "ended":
        return attempt.cause == word.cause and attempt.exit_code == word.exit_code
    return word.cause == "interrupted" and not word.stopped and attempt.interrupted_at is not None
