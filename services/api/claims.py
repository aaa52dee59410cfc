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

from services.api import decisions
from services.api.agents import NO_TOKEN, must_be_current
from services.api.config import ApiConfig
from services.api.identity import Identity, Proof
from services.api.model import Attempt, Case, Job
from services.api.refused import Refused
from services.api.sealing import CannotOpen, open_secrets
from services.api.store import jobs as store
from services.api.store import proofs, secrets, steps
from services.api.store.jobs import Owner
from shared import tokens
from shared.db import Database, Transaction
from shared.log import get_logger
from shared.points import Points
from shared.wakeups import Wakeups

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


class GivenBack(Struct, frozen=True):
    """The instance is being taken back, and the agent had no job yet: its attempt is over."""

    attempt: int


Bound: TypeAlias = tuple[Job, Attempt] | Wait | GivenBack


class SecretsClosed(Exception):
    """The key of a job's secrets is missing. Its operator can put it back; until then it waits."""


@dataclass(frozen=True)
class ClaimDesk:
    """Hands jobs out. `changed` is told the id of each job that may look different now."""

    config: ApiConfig
    db: Database
    wakeups: Wakeups
    points: Points
    changed: Callable[[int], None]
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
        async with self.db.transaction() as tx:
            bound = await self._bind(tx, claim)
        return await self._answer(claim, bound)

    async def claim_by_role(self, claim: RoleClaim) -> dict[str, Any] | Wait:
        """The same for whatever attempt the launcher has assigned to the instance that asks."""
        if self.identity is None:
            raise Refused(401, NO_TOKEN)
        shown = await self.identity.who(claim.proof, claim.token)  # a call: in no transaction
        async with self.db.connection() as conn:
            owner = await proofs.find_instance(conn, shown.instance_id)
        if owner is None:
            # Launched a moment ago, and its InstanceLaunched is on its way; or nobody's, and the
            # reaper's business. Either way there is no job for it now.
            return Wait(f"instance {shown.instance_id} is not known yet", UNKNOWN_WAIT_SECONDS)
        whole = Claim(
            job_id=owner.job_id,
            attempt=owner.attempt,
            instance_id=shown.instance_id,
            token=claim.token,
            runtime=claim.runtime,
            interrupted=claim.interrupted,
        )
        async with self.db.transaction() as tx:
            hashed = tokens.token_hash(claim.token)
            if not await proofs.use_proof(tx, shown.signature, hashed, shown.expires_at):
                raise Refused(401, "the claim's signature was used with another token")
            bound = await self._bind(tx, whole)
        return await self._answer(whole, bound)

    async def _answer(self, claim: Claim, bound: Bound) -> dict[str, Any] | Wait:
        self.changed(claim.job_id)
        if isinstance(bound, GivenBack):
            self.wakeups.wake("relay_outbox")
            raise Refused(409, f"attempt {bound.attempt} is over: interrupted", cause="interrupted")
        if isinstance(bound, Wait):
            return bound
        # A crash here loses the answer only: the same agent claims again and gets the same one.
        self.points.reached("api.claimed")
        _log.info(
            "attempt claimed",
            job=claim.job_id,
            attempt=claim.attempt,
            instance=claim.instance_id,
            runtime=claim.runtime,
        )
        job, attempt = bound
        return _assignment(job, attempt, await self._open_secrets(job), self.config)

    async def _open_secrets(self, job: Job) -> dict[str, str]:
        """The values of `secret_env`. Raises `SecretsClosed`: whoever asks may ask again."""
        if not job.secret_env:
            return {}
        async with self.db.connection() as conn:
            sealed = await secrets.find_secrets(conn, job.id)
        if sealed is None:  # it ended between the claim's commit and now
            raise Refused(409, f"job {job.id} is over")
        try:
            return open_secrets(self.config.secret_keys, job.id, sealed)
        except CannotOpen as error:
            _log.error("secrets cannot be opened: add the key again", job=job.id, error=str(error))
            raise SecretsClosed("the job's secrets cannot be opened now: ask again") from None

    async def _bind(self, tx: Transaction, claim: Claim) -> Bound:
        case = await store.lock_case(tx, claim.job_id)
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
            known = replace(attempt, instance_id=claim.instance_id)
            rules = self.config.rules
            step = decisions.decide_interrupted(case, known, tx.now, self.jitter(), rules)
            if step is not None:
                await steps.save_and_tell(tx, case.job, step)
            return GivenBack(attempt.number)
        because = _must_wait(case, attempt)
        if because is not None:
            await self._keep_waiting(tx, claim, attempt, because)
            return Wait(because, min(WAIT_SECONDS, self.config.agent.heartbeat_seconds))
        return case.job, await self._bind_token(tx, claim, attempt)

    async def _keep_waiting(
        self, tx: Transaction, claim: Claim, attempt: Attempt, because: str
    ) -> None:
        """A sign of life; at first also where it is, and why it goes no further."""
        if attempt.waiting_because == because:
            await store.beat(tx, Owner(claim.job_id, claim.attempt))
            return
        waiting = decisions.decide_must_wait(
            attempt, because, claim.instance_id, tx.now, self.config.rules
        )
        await steps.save_attempt(tx, waiting)

    async def _bind_token(self, tx: Transaction, claim: Claim, attempt: Attempt) -> Attempt:
        hashed = tokens.token_hash(claim.token)
        if attempt.token_hash == hashed:
            return attempt
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
        return claimed


def _assignment(
    job: Job, attempt: Attempt, secret_env: dict[str, str], config: ApiConfig
) -> dict[str, Any]:
    """The job as its agent gets it: the one place where secrets leave, and to whom they belong."""
    given: dict[str, Any] = {
        "id": job.id,
        "docker_image": job.docker_image,
        "command": job.command,
        "env_vars": job.env_vars,
        "timeout_seconds": job.timeout_seconds,
    }
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
