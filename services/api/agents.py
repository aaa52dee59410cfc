"""What an agent may do for its attempt, and only for it: claim, report, call back.

Whoever holds the attempt's token speaks for the attempt while it is the job's current one. Anybody
else is answered with `Refused`, and nothing changes. `docs/agent-protocol.md` is the other side of
this.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from services.api import decisions
from services.api.config import ApiConfig
from services.api.model import TERMINAL, Attempt, Job, Step
from services.api.store import jobs as store
from services.api.store import logs, steps
from services.api.store.jobs import Owner
from services.api.store.logs import Line
from shared import tokens
from shared.db import Database, Transaction
from shared.events import Cause
from shared.log import get_logger
from shared.points import Points
from shared.wakeups import Wakeups

_log = get_logger(service="api", part="agents")

LOG_SOURCE = "docker-job"
"""The stream of the lines that we add to a container's own."""


class Refused(Exception):
    """The agent may not do this. `status` is the HTTP status to say it with."""

    def __init__(self, status: int, message: str, *, cause: Cause | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause


NO_TOKEN = "give the attempt's token as 'Authorization: Bearer …'"  # noqa: S105 - a message
NO_BOOTSTRAP = "this is not the bootstrap token of that attempt"


class Claim(Struct, frozen=True, kw_only=True):
    """An agent's first words."""

    job_id: int
    attempt: int
    instance_id: str
    token: str
    runtime: str


class Report(Struct, frozen=True, kw_only=True):
    """A heartbeat, and what else there is to tell."""

    phase: str | None = None
    seq: int | None = None
    lines: tuple[Line, ...] = ()


class Callback(Struct, frozen=True, kw_only=True):
    """An agent's word on how its attempt stands or ended."""

    cause: Cause
    stopped: bool
    exit_code: int | None = None
    message: str | None = None


@dataclass(frozen=True)
class AgentDesk:
    """Serves agents. `changed` is told the id of each job that may look different now."""

    config: ApiConfig
    db: Database
    wakeups: Wakeups
    points: Points
    changed: Callable[[int], None]

    async def claim(self, bearer: str, claim: Claim) -> dict[str, Any]:
        """Bind the agent's own token to its attempt, once, and hand the job out."""
        expected = tokens.bootstrap_token(
            self.config.token_key, self.config.deployment, claim.job_id, claim.attempt
        )
        if not tokens.same(bearer, expected):
            raise Refused(401, NO_BOOTSTRAP)
        async with self.db.transaction() as tx:
            job, attempt = await self._bind(tx, claim)
        # A crash here loses the answer only: the same agent claims again and gets the same one.
        self.points.reached("api.claimed")
        _log.info(
            "attempt claimed",
            job=job.id,
            attempt=attempt.number,
            instance=claim.instance_id,
            runtime=claim.runtime,
        )
        self.changed(job.id)
        return self._assignment(job, attempt)

    async def _bind(self, tx: Transaction, claim: Claim) -> tuple[Job, Attempt]:
        job = await store.lock_job(tx, claim.job_id)
        attempt = await store.load_attempt(tx.conn, claim.job_id, claim.attempt)
        if job is None or attempt is None:
            raise Refused(401, NO_BOOTSTRAP)
        _must_be_current(job, attempt)
        if attempt.state == "held":
            raise Refused(409, f"attempt {attempt.number} waits for the container before it")
        if attempt.instance_id not in (None, claim.instance_id):
            raise Refused(409, f"attempt {attempt.number} has another instance")
        hashed = tokens.token_hash(claim.token)
        if attempt.token_hash == hashed:
            return job, attempt
        if attempt.token_hash is not None:
            raise Refused(409, f"attempt {attempt.number} is claimed already")
        if await store.find_token(tx.conn, hashed) is not None:
            raise Refused(409, "this token is another attempt's")
        claimed = decisions.decide_claimed(
            attempt,
            token_hash=hashed,
            instance_id=claim.instance_id,
            runtime=claim.runtime,
            now=tx.now,
            rules=self.config.rules,
        )
        await steps.save_attempt(tx, claimed)
        return job, claimed

    def _assignment(self, job: Job, attempt: Attempt) -> dict[str, Any]:
        return {
            "job": {
                "id": job.id,
                "docker_image": job.docker_image,
                "command": job.command,
                "env_vars": job.env_vars,
                "timeout_seconds": job.timeout_seconds,
            },
            "attempt": attempt.number,
            "settings": asdict(self.config.agent),
        }

    async def report(self, bearer: str | None, job_id: int, report: Report) -> None:
        """Keep a sign of life, a phase and log lines."""
        async with self.db.transaction() as tx:
            owner = await self._owner(tx, bearer, job_id)
            if report.phase is None and not report.lines:
                if not await store.beat(tx, owner):
                    await self._say_over(tx, owner)
                return
            job, attempt = await self._load_current(tx, owner)
            alive = replace(attempt, heartbeat_at=tx.now)
            step = (
                decisions.decide_phase(job, alive, report.phase, tx.now) if report.phase else None
            )
            if step is None:
                await store.beat(tx, owner)
            else:
                await steps.save_and_tell(tx, job, step)
            if report.lines and report.seq is not None:
                await self._keep_lines(tx, job, owner, report.seq, report.lines)
        if step is not None:
            _log.info("attempt moved", job=job_id, attempt=owner.attempt, phase=report.phase)
            self.wakeups.wake("relay_outbox")
        self.changed(job_id)

    async def _keep_lines(
        self, tx: Transaction, job: Job, owner: Owner, seq: int, lines: tuple[Line, ...]
    ) -> None:
        """Keep what fits into the job's bound, and say in a line of our own where it was cut."""
        if job.log_cut:
            return
        limit = self.config.agent.log_limit_bytes
        kept, size = _fitting(lines, limit - job.log_bytes)
        cut = len(kept) < len(lines)
        if cut:
            note = f"--- log cut here: a job's log is kept up to {limit} bytes ---"
            kept.append((tx.now.isoformat(), LOG_SOURCE, note))
        await logs.keep_batch(tx, owner, seq, kept, size, cut=cut)

    async def call_back(self, bearer: str | None, job_id: int, word: Callback) -> Job:
        """Let the agent's word take effect.

        The same word again changes nothing, and is answered alike for as long as no attempt has
        followed.
        """
        async with self.db.transaction() as tx:
            owner = await self._owner(tx, bearer, job_id)
            job = await store.lock_job(tx, owner.job_id)
            attempt = await store.load_attempt(tx.conn, owner.job_id, owner.attempt)
            if job is None or attempt is None:
                raise Refused(401, NO_TOKEN)
            if attempt.number == job.attempt and _said_before(attempt, word):
                return job
            _must_be_current(job, attempt)
            step = self._decide(job, attempt, word, tx)
            if step is not None:
                await steps.save_and_tell(tx, job, step)
                job = step.job
            self.points.reached("api.callback_before_commit")
        # A crash here loses the answer only: the agent repeats its word and finds it heard.
        self.points.reached("api.callback_committed")
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

    def _decide(self, job: Job, attempt: Attempt, word: Callback, tx: Transaction) -> Step | None:
        rules = self.config.rules
        if word.cause == "interrupted" and not word.stopped:
            return decisions.decide_interrupted(job, attempt, tx.now, rules)
        return decisions.decide_end(
            job,
            attempt,
            word.cause,
            tx.now,
            rules,
            message=word.message,
            exit_code=word.exit_code,
            container_stopped=True,
        )

    async def _owner(self, tx: Transaction, bearer: str | None, job_id: int) -> Owner:
        """Whose token this is. An unknown job and a wrong token are answered alike."""
        if not bearer:
            raise Refused(401, NO_TOKEN)
        owner = await store.find_token(tx.conn, tokens.token_hash(bearer))
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
        raise _over(owner.attempt, None if attempt is None else attempt.cause)

    async def _load_current(self, tx: Transaction, owner: Owner) -> tuple[Job, Attempt]:
        job = await store.lock_job(tx, owner.job_id)
        attempt = await store.load_attempt(tx.conn, owner.job_id, owner.attempt)
        if job is None or attempt is None:
            raise Refused(401, NO_TOKEN)
        _must_be_current(job, attempt)
        return job, attempt


def _must_be_current(job: Job, attempt: Attempt) -> None:
    if attempt.state == "ended" or attempt.number != job.attempt or job.status in TERMINAL:
        raise _over(attempt.number, attempt.cause)


def _over(number: int, cause: Cause | None) -> Refused:
    return Refused(409, f"attempt {number} is over" + (f": {cause}" if cause else ""), cause=cause)


def _said_before(attempt: Attempt, word: Callback) -> bool:
    """Whether this word has taken effect already."""
    if attempt.state == "ended":
        return attempt.cause == word.cause and attempt.exit_code == word.exit_code
    return word.cause == "interrupted" and not word.stopped and attempt.interrupted_at is not None


def _fitting(lines: tuple[Line, ...], room: int) -> tuple[list[Line], int]:
    """As many of *lines* as fit into *room* bytes, and how many bytes those are."""
    kept: list[Line] = []
    size = 0
    for line in lines:
        length = len(line[2].encode()) + 1
        if size + length > room:
            break
        kept.append(line)
        size += length
    return kept, size
