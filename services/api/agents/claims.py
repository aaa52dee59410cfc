"""Claims: an agent proves its identity and gets the job of its attempt, once, or must wait.

A replacement's agent may claim before its turn, while the container of the earlier attempt runs. It
gets `Wait`, claims again, and gets the job when that container is known to have stopped. So two
containers of one job never run at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from services.api.agents.assignment import assignment_of
from services.api.agents.calls import Admitted, must_be_current
from services.api.agents.groups import AgentCall, AgentGroups, AgentUnitOfWork
from services.api.agents.refusals import NO_TOKEN, Refused
from services.api.agents.requests import RoleClaim, TokenClaim
from services.api.agents.role_claims import NotLaunched, RoleClaims
from services.api.agents.settings import AgentsConfig
from services.api.agents.store import ProofUse
from services.api.agents.sts_identity import VerifiedInstance
from services.api.jobs import decisions, interruptions
from services.api.jobs.first_hour import free_seconds
from services.api.jobs.model import Attempt, Job, JobWithAttempts, Step
from services.api.jobs.store import Owner
from services.api.keys.access import Access
from services.api.keys.rates import RateLimit
from services.api.secrets import store as secret_store
from services.api.secrets.sealing import CannotOpen, open_secrets
from shared import tokens
from shared.crash_points import Points
from shared.log import get_logger
from shared.postgres.pool import Database

_log = get_logger(service="api", part="claims")

NO_BOOTSTRAP = "this is not the bootstrap token of that attempt"
UNKNOWN_WAIT_SECONDS = 2.0
FREE_HOUR = "free_if_interrupted_within_seconds"
EARLY = timedelta(seconds=5)
"""The scheduler's clock may be ahead of the API's by this."""

WAIT_SECONDS = 1.0
"""The time after which a waiting agent claims again: each second of a replacement costs money."""


class Wait(Struct, frozen=True):
    """The job cannot be claimed yet, and the reason: claim again. *settings* hold until then."""

    because: str
    retry_seconds: float
    settings: dict[str, float] = {}


Bound: TypeAlias = tuple[Job, Attempt] | Wait


class SecretsClosed(Exception):
    """The key of a job's secrets is missing. Agents claim again until an operator restores it."""


@dataclass(frozen=True)
class ClaimService:
    """Claims of attempts."""

    config: AgentsConfig
    db: Database
    groups: AgentGroups
    admitted: Admitted
    points: Points
    jitter: Callable[[], float]
    roles: RoleClaims | None
    access: Access
    rate: RateLimit

    async def claim(
        self, bearer: str, claim: TokenClaim, address: str = ""
    ) -> dict[str, Any] | Wait:
        """Bind the agent's own token to the attempt of its bootstrap token; return the job.

        Refused if the deployment identifies instances by their role. The token is computed, not
        looked up: a genuine one is never refused for its *address*.
        """
        expected = tokens.bootstrap_token(
            self.config.token_key, self.config.deployment, claim.job_id, claim.attempt
        )
        if self.roles is not None or not tokens.same(bearer, expected):
            await self.access.failures.count(address)
            raise Refused(401, NO_BOOTSTRAP)
        self.rate.take(f"attempt/{claim.job_id}/{claim.attempt}")
        call: AgentCall[Bound] = AgentCall(
            decide=lambda unit: self._bind(unit, claim),
            token_hash=tokens.token_hash(claim.token),
            claims=True,
            job_id=claim.job_id,
            claimant=claim.instance_id,
        )
        return await self._answer(await self.groups.serve(call))

    async def claim_by_role(self, claim: RoleClaim, address: str = "") -> dict[str, Any] | Wait:
        """Bind the agent's token to the attempt that was launched on its instance."""
        if self.roles is None:
            raise Refused(401, NO_TOKEN)
        try:
            verified = await self.roles.verify(claim, address)  # in no transaction
        except NotLaunched as error:
            return Wait(str(error), UNKNOWN_WAIT_SECONDS)
        self.rate.take(f"instance/{verified.instance_id}")
        call: AgentCall[Bound] = AgentCall(
            decide=lambda unit: self._bind_verified(unit, claim, verified),
            token_hash=tokens.token_hash(claim.token),
            claims=True,
            instance_id=verified.instance_id,
            claimant=verified.instance_id,
            signature=verified.signature,
        )
        return await self._answer(await self.groups.serve(call))

    def _bind_verified(
        self, unit: AgentUnitOfWork, claim: RoleClaim, verified: VerifiedInstance
    ) -> Bound | Refused:
        owner = unit.instances.get(verified.instance_id)
        if owner is None:
            # Just launched, and its InstanceLaunched is on its way; or orphaned, and the reaper
            # terminates it. Either way there is no job for it now.
            return Wait(f"instance {verified.instance_id} is not known yet", UNKNOWN_WAIT_SECONDS)
        hashed = tokens.token_hash(claim.token)
        if unit.used.get(verified.signature, hashed) != hashed:
            raise Refused(401, "the claim's signature was used with another token")
        known = TokenClaim(
            job_id=owner.job_id,
            attempt=owner.attempt,
            instance_id=verified.instance_id,
            token=claim.token,
            runtime=claim.runtime,
            interrupted=claim.interrupted,
        )
        bound = self._bind(unit, known)
        unit.use(ProofUse(verified.signature, hashed, verified.expires_at))
        return bound

    async def _answer(self, bound: Bound) -> dict[str, Any] | Wait:
        if isinstance(bound, Wait):
            return bound
        job, attempt = bound
        try:
            secret_env = await self._open_secrets(job)
        except SecretsClosed:
            if attempt.token_hash is not None:  # its agent is alive, and claims again
                await self.groups.beat(attempt.token_hash, job.id)
            raise
        assignment = assignment_of(job, attempt, secret_env, self.config)
        # With API keys the deployment has several users: their jobs must not reach what its
        # operator runs beside it.
        assignment["settings"]["host_services"] = not await self.access.has_keys()
        assignment["settings"] |= self._free_hour(attempt, self.db.clock.now())
        return assignment

    def _free_hour(self, attempt: Attempt, now: datetime) -> dict[str, float]:
        """Return the setting of an agent whose instance is free if EC2 interrupts it soon."""
        left = free_seconds(attempt, now, self.config.rules)
        return {FREE_HOUR: round(left, 1)} if left > 0 else {}

    async def _open_secrets(self, job: Job) -> dict[str, str]:
        """Open the values of `secret_env`. Raises `SecretsClosed`: the agent may claim again."""
        if not job.secret_env:
            return {}
        async with self.db.connection() as conn:
            sealed = await secret_store.find_secrets(conn, job.id)
        if sealed is None:  # the job ended between the claim's commit and now
            raise Refused(409, f"job {job.id} is over")
        try:
            return open_secrets(self.config.secret_keys, job.id, sealed)
        except CannotOpen as error:
            _log.error("secrets cannot be opened: add the key again", job=job.id, error=str(error))
            raise SecretsClosed("the job's secrets cannot be opened now: try again") from None

    def _bind(self, unit: AgentUnitOfWork, claim: TokenClaim) -> Bound | Refused:
        whole_job = unit.find(claim.job_id)
        found = [] if whole_job is None else whole_job.attempts
        attempt = next((each for each in found if each.number == claim.attempt), None)
        if whole_job is None or attempt is None or not _is_requested(attempt, unit.now):
            raise Refused(401, NO_BOOTSTRAP)
        try:
            return self._bind_to(unit, claim, whole_job, attempt)
        except Refused as refused:
            if attempt.instance_id in (None, claim.instance_id):
                # A notice may be why: the agent leaves the instance to EC2.
                refused.settings = self._free_hour(attempt, unit.now)
            raise

    def _bind_to(
        self, unit: AgentUnitOfWork, claim: TokenClaim, whole_job: JobWithAttempts, attempt: Attempt
    ) -> Bound | Refused:
        if whole_job.replacement is not attempt:
            must_be_current(whole_job.job, attempt)
        if attempt.state == "held":
            raise Refused(409, f"attempt {attempt.number} waits for the previous container")
        if attempt.instance_id not in (None, claim.instance_id):
            raise Refused(409, f"attempt {attempt.number} has another instance")
        if claim.interrupted and attempt.token_hash is None:
            return self._give_back(unit, whole_job, replace(attempt, instance_id=claim.instance_id))
        because = _must_wait(whole_job, attempt)
        if because is not None:
            self._keep_waiting(unit, claim, whole_job.job, attempt, because)
            again = min(WAIT_SECONDS, self.config.agent.heartbeat_seconds)
            return Wait(because, again, self._free_hour(attempt, unit.now))
        claimed = self._bind_token(unit, claim, whole_job.job, attempt)
        unit.after_commit.append(lambda: self._claimed(claim))
        return whole_job.job, claimed

    def _give_back(
        self, unit: AgentUnitOfWork, whole_job: JobWithAttempts, known: Attempt
    ) -> Refused:
        """End the attempt: its instance is being reclaimed, and its agent has no job yet."""
        rules = self.config.rules
        step = interruptions.decide_interrupted(whole_job, known, unit.now, self.jitter(), rules)
        if step is not None:
            unit.take(whole_job.job, step)
        refused = Refused(409, f"attempt {known.number} is over: interrupted", cause="interrupted")
        refused.settings = self._free_hour(known, unit.now)
        return refused

    def _keep_waiting(
        self, unit: AgentUnitOfWork, claim: TokenClaim, job: Job, attempt: Attempt, because: str
    ) -> None:
        """Record a heartbeat, and the reason to wait if it is a new one."""
        waiting = replace(attempt, heartbeat_at=unit.now)
        if attempt.waiting_because != because:
            waiting = decisions.decide_must_wait(
                attempt, because, claim.instance_id, unit.now, self.config.rules
            )
        unit.take(job, Step(job=job, attempts=(waiting,)))

    def _bind_token(
        self, unit: AgentUnitOfWork, claim: TokenClaim, job: Job, attempt: Attempt
    ) -> Attempt:
        hashed = tokens.token_hash(claim.token)
        if attempt.token_hash == hashed:
            return attempt
        if attempt.token_hash is not None:
            raise Refused(409, f"attempt {attempt.number} is already claimed")
        if hashed in unit.bearers:
            raise Refused(409, "this token belongs to another attempt")
        claimed = decisions.decide_claimed(
            attempt,
            token_hash=hashed,
            instance_id=claim.instance_id,
            runtime=claim.runtime,
            now=unit.now,
            rules=self.config.rules,
        )
        unit.take(job, Step(job=job, attempts=(claimed,)))
        unit.bind(hashed, Owner(attempt.job_id, attempt.number))
        return claimed

    def _claimed(self, claim: TokenClaim) -> None:
        # A crash here loses only the response: the agent claims again and gets the same one.
        self.points.reached("api.claimed")
        token_hash = tokens.token_hash(claim.token)
        self.admitted.add(token_hash, claim.job_id)
        self.access.failures.remember([token_hash])
        _log.info(
            "attempt claimed",
            job=claim.job_id,
            attempt=claim.attempt,
            instance=claim.instance_id,
            runtime=claim.runtime,
        )


def _is_requested(attempt: Attempt, now: datetime) -> bool:
    """Return whether an instance can have been asked for: no token is valid before that."""
    return attempt.state != "scheduled" or attempt.due_at <= now + EARLY


def _must_wait(whole_job: JobWithAttempts, attempt: Attempt) -> str | None:
    """Return the reason for users why the agent of *attempt* may not get the job yet, or None."""
    before = whole_job.unstopped_before(attempt.number)
    if before is None and attempt is not whole_job.replacement:
        return None
    number = whole_job.job.attempt if before is None else before.number
    return (
        f"attempt {attempt.number} is ready, and waits until the container of "
        f"attempt {number} is known to have stopped"
    )
