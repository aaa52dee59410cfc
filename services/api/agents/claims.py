"""Claiming an attempt: an agent shows who it is and gets the job, once, or is told to wait.

A replacement's agent may be there before its time, while the container before it still runs. It is
answered with `Wait`: it lives, it asks again, and it gets the job when that container is known to
have stopped. So two containers of one job never run at once.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from services.api.agents.calls import Admitted, must_be_current
from services.api.agents.groups import AgentGroups, UnitOfWork, Word
from services.api.agents.refusals import NO_TOKEN, Refused
from services.api.agents.settings import AgentsConfig
from services.api.agents.store import Use
from services.api.agents.sts_identity import Identity, Proof, Shown
from services.api.jobs import decisions
from services.api.jobs.model import Attempt, Case, Job, Step
from services.api.jobs.store import Owner
from services.api.secrets import store as secret_store
from services.api.secrets.sealing import CannotOpen, open_secrets
from shared import tokens
from shared.crash_points import Points
from shared.log import get_logger
from shared.postgres.pool import Database

_log = get_logger(service="api", part="claims")

NO_BOOTSTRAP = "this is not the bootstrap token of that attempt"
UNKNOWN_WAIT_SECONDS = 2.0
WAIT_SECONDS = 1.0
"""How soon an agent that must wait asks again: each second of a replacement is paid for."""


class Claim(Struct, frozen=True, kw_only=True):
    """An agent's first words."""

    job_id: int
    attempt: int
    instance_id: str
    token: str
    runtime: str
    interrupted: bool = False


class RoleClaim(Struct, frozen=True, kw_only=True):
    """An agent's first words where its role says who it is: it knows no job yet."""

    proof: Proof
    token: str
    runtime: str
    interrupted: bool = False


class Wait(Struct, frozen=True):
    """The job is not to be had yet, and why: ask again."""

    because: str
    retry_seconds: float


Bound: TypeAlias = tuple[Job, Attempt] | Wait


class SecretsClosed(Exception):
    """The key of a job's secrets is missing. Its operator can put it back; until then it waits."""


@dataclass(frozen=True)
class ClaimDesk:
    """Hands jobs out."""

    config: AgentsConfig
    db: Database
    groups: AgentGroups
    admitted: Admitted
    points: Points
    jitter: Callable[[], float]
    identity: Identity | None

    async def claim(self, bearer: str, claim: Claim) -> dict[str, Any] | Wait:
        """Bind the agent's own token to the attempt of its bootstrap token, and hand the job out.

        Where instances show who they are by their role, that is the only way.
        """
        expected = tokens.bootstrap_token(
            self.config.token_key, self.config.deployment, claim.job_id, claim.attempt
        )
        if self.identity is not None or not tokens.same(bearer, expected):
            raise Refused(401, NO_BOOTSTRAP)
        word: Word[Bound] = Word(
            decide=lambda unit: self._bind(unit, claim),
            token_hash=tokens.token_hash(claim.token),
            claims=True,
            job_id=claim.job_id,
        )
        return await self._answer(await self.groups.hear(word))

    async def claim_by_role(self, claim: RoleClaim) -> dict[str, Any] | Wait:
        """The same for whatever attempt the launcher has assigned to the instance that asks."""
        if self.identity is None:
            raise Refused(401, NO_TOKEN)
        shown = await self.identity.who(claim.proof, claim.token)  # a call: in no transaction
        word: Word[Bound] = Word(
            decide=lambda unit: self._bind_shown(unit, claim, shown),
            token_hash=tokens.token_hash(claim.token),
            claims=True,
            instance_id=shown.instance_id,
            signature=shown.signature,
        )
        return await self._answer(await self.groups.hear(word))

    def _bind_shown(self, unit: UnitOfWork, claim: RoleClaim, shown: Shown) -> Bound | Refused:
        owner = unit.instances.get(shown.instance_id)
        if owner is None:
            # Launched a moment ago, and its InstanceLaunched is on its way; or nobody's, and the
            # reaper's business. Either way there is no job for it now.
            return Wait(f"instance {shown.instance_id} is not known yet", UNKNOWN_WAIT_SECONDS)
        hashed = tokens.token_hash(claim.token)
        if unit.used.get(shown.signature, hashed) != hashed:
            raise Refused(401, "the claim's signature was used with another token")
        whole = Claim(
            job_id=owner.job_id,
            attempt=owner.attempt,
            instance_id=shown.instance_id,
            token=claim.token,
            runtime=claim.runtime,
            interrupted=claim.interrupted,
        )
        bound = self._bind(unit, whole)
        unit.use(Use(shown.signature, hashed, shown.expires_at))
        return bound

    async def _answer(self, bound: Bound) -> dict[str, Any] | Wait:
        if isinstance(bound, Wait):
            return bound
        job, attempt = bound
        return _assignment(job, attempt, await self._open_secrets(job), self.config)

    async def _open_secrets(self, job: Job) -> dict[str, str]:
        """The values of `secret_env`. Raises `SecretsClosed`: whoever asks may ask again."""
        if not job.secret_env:
            return {}
        async with self.db.connection() as conn:
            sealed = await secret_store.find_secrets(conn, job.id)
        if sealed is None:  # it ended between the claim's commit and now
            raise Refused(409, f"job {job.id} is over")
        try:
            return open_secrets(self.config.secret_keys, job.id, sealed)
        except CannotOpen as error:
            _log.error("secrets cannot be opened: add the key again", job=job.id, error=str(error))
            raise SecretsClosed("the job's secrets cannot be opened now: ask again") from None

    def _bind(self, unit: UnitOfWork, claim: Claim) -> Bound | Refused:
        case = unit.find(claim.job_id)
        if case is None or not any(each.number == claim.attempt for each in case.attempts):
            raise Refused(401, NO_BOOTSTRAP)
        attempt = case.attempt(claim.attempt)
        if case.replacement is not attempt:
            must_be_current(case.job, attempt)
        if attempt.state == "held":
            raise Refused(409, f"attempt {attempt.number} waits for the container before it")
        if attempt.instance_id not in (None, claim.instance_id):
            raise Refused(409, f"attempt {attempt.number} has another instance")
        if claim.interrupted and attempt.token_hash is None:
            return self._give_back(unit, case, replace(attempt, instance_id=claim.instance_id))
        because = _must_wait(case, attempt)
        if because is not None:
            self._keep_waiting(unit, claim, case.job, attempt, because)
            return Wait(because, min(WAIT_SECONDS, self.config.agent.heartbeat_seconds))
        claimed = self._bind_token(unit, claim, case.job, attempt)
        unit.changed.add(claim.job_id)
        unit.after_commit.append(lambda: self._claimed(claim))
        return case.job, claimed

    def _give_back(self, unit: UnitOfWork, case: Case, known: Attempt) -> Refused:
        """The instance is being taken back, and its agent had no job yet: the attempt is over."""
        rules = self.config.rules
        step = decisions.decide_interrupted(case, known, unit.now, self.jitter(), rules)
        if step is not None:
            unit.take(case.job, step)
        unit.changed.add(known.job_id)
        return Refused(409, f"attempt {known.number} is over: interrupted", cause="interrupted")

    def _keep_waiting(
        self, unit: UnitOfWork, claim: Claim, job: Job, attempt: Attempt, because: str
    ) -> None:
        """A sign of life; at first also where it is, and why it goes no further."""
        waiting = replace(attempt, heartbeat_at=unit.now)
        if attempt.waiting_because != because:
            waiting = decisions.decide_must_wait(
                attempt, because, claim.instance_id, unit.now, self.config.rules
            )
        unit.take(job, Step(job=job, attempts=(waiting,)))
        unit.changed.add(job.id)

    def _bind_token(self, unit: UnitOfWork, claim: Claim, job: Job, attempt: Attempt) -> Attempt:
        hashed = tokens.token_hash(claim.token)
        if attempt.token_hash == hashed:
            return attempt
        if attempt.token_hash is not None:
            raise Refused(409, f"attempt {attempt.number} is claimed already")
        if hashed in unit.bearers:
            raise Refused(409, "this token is another attempt's")
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

    def _claimed(self, claim: Claim) -> None:
        # A crash here loses the answer only: the same agent claims again and gets the same one.
        self.points.reached("api.claimed")
        self.admitted.add(tokens.token_hash(claim.token), claim.job_id)
        _log.info(
            "attempt claimed",
            job=claim.job_id,
            attempt=claim.attempt,
            instance=claim.instance_id,
            runtime=claim.runtime,
        )


def _assignment(
    job: Job, attempt: Attempt, secret_env: dict[str, str], config: AgentsConfig
) -> dict[str, Any]:
    """The job as its agent gets it: the one place where secrets leave, and to whom they belong."""
    given: dict[str, Any] = {
        "id": job.id,
        "docker_image": job.docker_image,
        "command": job.command,
        "env_vars": job.env_vars,
        "timeout_seconds": job.timeout_seconds,
    }
    given |= {"entrypoint": job.entrypoint} if job.entrypoint is not None else {}
    given |= {"gpus": job.resources.gpus} if job.resources.gpus else {}
    given |= {"secret_env": secret_env} if secret_env else {}
    given |= {"secrets": job.secrets} if job.secrets else {}
    given |= {"registry_auth": job.registry_auth} if job.registry_auth else {}
    return {
        "job": given,
        "attempt": attempt.number,
        "instance_id": attempt.instance_id,
        "settings": asdict(config.agent),
    }


def _must_wait(case: Case, attempt: Attempt) -> str | None:
    """Why the agent of *attempt* may not have the job yet."""
    before = case.unstopped_before(attempt.number)
    if before is None and attempt is not case.replacement:
        return None
    number = case.job.attempt if before is None else before.number
    return (
        f"attempt {attempt.number} is ready, and waits until the container of "
        f"attempt {number} is known to have stopped"
    )
