"""A job and its attempts in memory, changed by the API's own decisions like rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from services.api.agents.calls import Callback, _reported_before, must_be_current
from services.api.agents.claims import _must_wait
from services.api.agents.refusals import Refused
from services.api.jobs import decisions, endings, interruptions
from services.api.jobs.endings import decide_end, job_scheduled
from services.api.jobs.model import (
    STATE_TRANSITIONS,
    STATUS_TRANSITIONS,
    TERMINAL,
    Attempt,
    AttemptEnding,
    Job,
    JobRules,
    JobWithAttempts,
    State,
    Step,
    first_attempt,
)
from shared.events.events import (
    Event,
    InstanceInterrupted,
    InstanceLaunched,
    InstanceTerminated,
    InstanceUnconfirmed,
    JobScheduled,
    LaunchDelayed,
    LaunchRefused,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = JobRules(
    interruption_budget=2,
    pull_budget=2,
    pull_budget_seconds=0,
    boot_seconds=100,
    silence_seconds=60,
    stop_grace_seconds=10,
    retry_first_seconds=8,
)
JITTER = 0.0


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_job(**fields: Any) -> Job:
    known: dict[str, Any] = {
        "id": 1,
        "name": None,
        "docker_image": "alpine",
        "command": None,
        "env_vars": {},
        "labels": {"team": "a"},
        "scheduled_for": NOW,
        "timezone": "UTC",
        "timeout_seconds": None,
        "status": "SCHEDULED",
        "attempt": 1,
        "trace": "trace-1",
        "created_at": NOW,
    }
    return Job(**{**known, **fields})


def an_attempt(state: State = "scheduled", **fields: Any) -> Attempt:
    """Make an attempt in *state*: launched from booting on, claimed from pulling on."""
    order = ("booting", "pulling", "running", "stopping", "ended")
    known: dict[str, Any] = {
        "job_id": 1,
        "number": 1,
        "state": state,
        "due_at": NOW,
        "entered": {"scheduled": NOW, state: NOW},
    }
    if state in order:
        known |= {"instance_id": "i-1", "dies_by": after(3600), "check_at": after(100)}
    if state in order[1:]:
        known |= {"token_hash": b"token", "runtime": "docker", "heartbeat_at": NOW}
        known |= {"check_at": after(60)}
    if state == "ended":
        known |= {"cause": "lost", "ended_at": NOW, "check_at": None}
    return Attempt(**{**known, **fields})


def delayed(
    attempt: int = 1, *, seconds: float = 30, message: str = "no capacity"
) -> LaunchDelayed:
    return LaunchDelayed(
        job_id=1,
        attempt=attempt,
        reason="no_capacity",
        message=message,
        next_try_at=after(seconds),
    )


def refused(attempt: int = 1) -> LaunchRefused:
    return LaunchRefused(job_id=1, attempt=attempt, message="bad image id")


def no_capacity(attempt: int = 1) -> LaunchRefused:
    message = "no Spot capacity within 600 s"
    return LaunchRefused(job_id=1, attempt=attempt, message=message, reason="no_capacity")


def warned(attempt: int = 1, *, rebalance: bool = False, at: datetime = NOW) -> InstanceInterrupted:
    return InstanceInterrupted(
        instance_id=f"i-{attempt}",
        job_id=1,
        attempt=attempt,
        kind="rebalance" if rebalance else "interruption",
        noticed_at=at,
    )


def launched(
    attempt: int = 1, *, instance: str | None = None, at: datetime = NOW
) -> InstanceLaunched:
    return InstanceLaunched(
        job_id=1,
        attempt=attempt,
        launch_token="launch-1",
        instance_id=instance or f"i-{attempt}",
        instance_type="m7g.medium",
        zone="us-east-1a",
        market="spot",
        hourly_price_usd=0.01,
        launched_at=at,
        dies_by=at + timedelta(seconds=3600),
        launch_sequence=1,
        spot_instance_request_id="sir-1",
        on_demand_hourly_price_usd=0.04,
    )


def terminated(
    attempt: int = 1, *, instance: str | None = None, spot: bool = False, at: datetime = NOW
) -> InstanceTerminated:
    return InstanceTerminated(
        instance_id=instance or f"i-{attempt}",
        terminated_at=at,
        cause="it ended",
        spot_interrupted=spot,
        billed_seconds=60,
        cost_usd=0.02,
        job_id=1,
        attempt=attempt,
    )


INTERRUPTED = Callback(cause="interrupted", stopped=False)
STOPPED = Callback(cause="interrupted", stopped=True, exit_code=143)
DONE = Callback(cause="done", stopped=True, exit_code=0)
FAILED = Callback(cause="failed", stopped=True, exit_code=3, message="it failed")
UNSURE = Callback(cause="failed", stopped=False, message="the agent lost the container")
TIMED_OUT = Callback(cause="timed_out", stopped=True, message="too long")
PULL_FAILED = Callback(cause="pull_failed", stopped=True, message="the registry is unavailable")
NO_SUCH_IMAGE = replace(PULL_FAILED, message="manifest unknown", for_good=True)


class Story:
    """One job. A call that the routes refuse raises `Refused` here too."""

    def __init__(self, job: Job | None = None, *attempts: Attempt, rules: JobRules = RULES) -> None:
        self.job = job or a_job()
        self.rules = rules
        self.attempts = {each.number: each for each in attempts} or {1: first_attempt(1, NOW, NOW)}
        self.published: list[Event] = []
        if not attempts:
            self.published.append(job_scheduled(self.job, self.attempts[1], rules))

    @property
    def current(self) -> Attempt:
        return self.attempts[self.job.attempt]

    @property
    def whole_job(self) -> JobWithAttempts:
        return JobWithAttempts(
            self.job, tuple(self.attempts[number] for number in sorted(self.attempts))
        )

    def save(self, step: Step | None) -> bool:
        """Keep a decision; return False if there is none. Only declared transitions are allowed."""
        if step is None:
            return False
        status = step.job.status
        assert status == self.job.status or status in STATUS_TRANSITIONS[self.job.status]
        for each in step.attempts:
            known = self.attempts.get(each.number, each).state
            assert each.state == known or each.state in STATE_TRANSITIONS[known]
        self.job = step.job
        self.attempts.update({each.number: each for each in step.attempts})
        self.published += step.events
        return True

    def deliver(self, fact: Event, now: datetime = NOW) -> bool:
        """Handle another service's event; return whether it changed anything."""
        rules = self.rules
        match fact:
            case LaunchDelayed():
                return self.save(decisions.decide_delayed(self.job, self._of(fact), fact, now))
            case LaunchRefused():
                return self.save(
                    decisions.decide_refused(
                        self.whole_job, self._of(fact), fact, now, JITTER, rules
                    )
                )
            case InstanceLaunched():
                moved = decisions.decide_launched(self._of(fact), fact, rules)
                return self.save(Step(job=self.job, attempts=(moved,)))
            case InstanceInterrupted():
                return self.save(
                    interruptions.decide_instance_interrupted(
                        self.whole_job, self._of(fact), fact, now, JITTER, rules
                    )
                )
            case InstanceUnconfirmed():
                return self.save(endings.decide_unconfirmed(self.whole_job, self._of(fact), fact))
            case InstanceTerminated():
                return self.save(
                    decisions.decide_terminated(
                        self.whole_job, self._of(fact), fact, now, JITTER, rules
                    )
                )
        raise AssertionError(fact)

    def _of(self, fact: Any) -> Attempt:
        return self.attempts[fact.attempt]

    def claim(self, number: int = 1, now: datetime = NOW, instance: str | None = None) -> bool:
        """Claim the job; return False if the agent must wait."""
        attempt = self.attempts[number]
        if attempt is not self.whole_job.replacement:
            must_be_current(self.job, attempt)
        if attempt.state == "held":
            raise Refused(409, "held")
        because = _must_wait(self.whole_job, attempt)
        instance = instance or f"i-{number}"
        if because is not None:
            self.attempts[number] = decisions.decide_must_wait(
                attempt, because, instance, now, self.rules
            )
            return False
        self.attempts[number] = decisions.decide_claimed(
            attempt,
            token_hash=f"token-{number}".encode(),
            instance_id=instance,
            runtime="docker",
            now=now,
            rules=self.rules,
        )
        return True

    def report(self, number: int = 1, phase: str | None = None, now: datetime = NOW) -> None:
        must_be_current(self.job, self.attempts[number])
        self.attempts[number] = replace(self.attempts[number], heartbeat_at=now)
        if phase is not None:
            self.save(decisions.decide_phase(self.job, self.attempts[number], phase, now))

    def call_back(self, callback: Callback, number: int = 1, now: datetime = NOW) -> bool:
        """Apply an agent's callback; return False if it was applied before."""
        attempt = self.attempts[number]
        if number == self.job.attempt and _reported_before(attempt, callback):
            return False
        must_be_current(self.job, attempt)
        if callback.cause == "interrupted" and not callback.stopped:
            return self.save(
                interruptions.decide_interrupted(self.whole_job, attempt, now, JITTER, self.rules)
            )
        ending = AttemptEnding(
            cause=callback.cause,
            message=callback.message,
            exit_code=callback.exit_code,
            container_stopped=callback.stopped,
            for_good=callback.for_good,
        )
        return self.save(decide_end(self.whole_job, attempt, ending, now, JITTER, self.rules))

    def rebalance(self, number: int = 1, now: datetime = NOW) -> bool:
        """Report a rebalance recommendation."""
        attempt = self.attempts[number]
        must_be_current(self.job, attempt)
        return self.save(
            interruptions.decide_rebalance(self.whole_job, attempt, now, JITTER, self.rules)
        )

    def cancel(self, now: datetime = NOW) -> bool:
        return self.save(decisions.decide_cancel(self.whole_job, now, JITTER, self.rules))

    def look(self, now: datetime) -> bool:
        """Run the sweep over silent attempts for this job."""
        due = [a for a in self.attempts.values() if a.check_at is not None and a.check_at <= now]
        for each in due:
            if self.attempts[each.number] == each:  # else the decision about another one ended it
                self.save(decisions.decide_overdue(self.whole_job, each, now, JITTER, self.rules))
        return bool(due)

    def published_of(self, *kinds: type[Event]) -> list[Any]:
        return [each for each in self.published if isinstance(each, kinds)]

    def names(self) -> list[str]:
        """Return the names of all published events, without the JobScheduled of attempt 1."""
        first = next(iter(self.published), None)
        skipped = 1 if isinstance(first, JobScheduled) and first.attempt == 1 else 0
        return [type(each).__name__ for each in self.published[skipped:]]

    def phases(self) -> list[str]:
        """Return the states of all attempts in order."""
        return [self.attempts[number].state for number in sorted(self.attempts)]

    @property
    def over(self) -> bool:
        return self.job.status in TERMINAL
