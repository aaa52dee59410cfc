"""Failed boots of a job's instances: its own limit, its messages, and the circuit breaker."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.api.config import from_settings
from services.api.jobs import boots, breaker
from services.api.jobs.breaker import Breaker, FailedBoot
from services.api.jobs.decisions import decide_overdue, decide_terminated
from services.api.jobs.model import Attempt, Job, JobRules, JobWithAttempts, Step
from shared.events.events import AttemptEnded, InstanceTerminated, JobFinished
from shared.settings import BadSetting, Settings

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = JobRules(boot_limit=2, boot_failures_pause=3)
LIMIT = "gave up after 2 failed boots in a row (DOCKER_JOB_BOOT_LIMIT), of instances i-1, i-2: "


def booting(number: int = 1, **fields: object) -> Attempt:
    attempt = Attempt(
        job_id=1,
        number=number,
        state="booting",
        due_at=NOW,
        entered={"scheduled": NOW, "booting": NOW},
        instance_id=f"i-{number}",
        check_at=NOW,
        dies_by=NOW + timedelta(days=1),
    )
    return replace(attempt, **fields)


def ended(number: int, **fields: object) -> Attempt:
    over = {"state": "ended", "cause": "lost", "ended_at": NOW, "container_stopped": True}
    return booting(number, **over | {"boot_failed": True} | fields)


def job_of(*attempts: Attempt) -> JobWithAttempts:
    job = Job(
        id=1,
        name=None,
        docker_image="alpine",
        command=None,
        env_vars={},
        labels={},
        scheduled_for=NOW,
        timezone="UTC",
        timeout_seconds=None,
        status="SCHEDULED",
        attempt=attempts[-1].number,
        trace="",
        created_at=NOW,
    )
    return JobWithAttempts(job, attempts)


def terminated(number: int = 1, **fields: object) -> InstanceTerminated:
    fact = InstanceTerminated(
        instance_id=f"i-{number}",
        terminated_at=NOW,
        cause="Client.InstanceInitiatedShutdown",
        spot_interrupted=False,
        billed_seconds=60,
        cost_usd=0.1,
        job_id=1,
        attempt=number,
    )
    return replace(fact, **fields)


def overdue(whole_job: JobWithAttempts, rules: JobRules = RULES) -> Step:
    return decide_overdue(whole_job, whole_job.current, NOW + timedelta(hours=1), 0, rules)


def ends(whole_job: JobWithAttempts, fact: InstanceTerminated, rules: JobRules = RULES) -> Step:
    step = decide_terminated(whole_job, whole_job.attempt(fact.attempt or 1), fact, NOW, 0, rules)
    assert step is not None
    return step


def has_failed(step: Step) -> bool:
    return any(isinstance(each, AttemptEnded) and each.boot_failed for each in step.events)


def test_the_last_failed_boot_within_the_limit_fails_the_job_and_names_limit_and_instances() -> (
    None
):
    first = overdue(job_of(booting()))
    assert has_failed(first)
    assert first.job.status == "SCHEDULED"
    assert first.attempts[1].retry_because == (
        "retry 1 of 1: boot failed: no claim by its instance within 900 s of its launch"
    )
    last = overdue(job_of(ended(1), booting(2)))
    assert (last.job.status, last.job.error_message) == (
        "FAILED",
        f"{LIMIT}no claim by its instance within 900 s of its launch",
    )
    finished = last.events[-1]
    assert isinstance(finished, JobFinished)
    assert (finished.cause, finished.error_message) == ("lost", last.job.error_message)


def test_with_a_limit_of_one_no_second_instance_is_launched() -> None:
    step = overdue(job_of(booting()), replace(RULES, boot_limit=1))
    assert (step.job.status, len(step.attempts)) == ("FAILED", 1)


def test_an_instance_that_ends_by_itself_before_a_claim_has_not_booted() -> None:
    console = "Linux\ndocker-job: Docker does not run\nPower down\n"
    step = ends(job_of(ended(1), booting(2)), terminated(2, console_output=console))
    assert step.job.status == "FAILED"
    assert step.job.error_message == (
        f"{LIMIT}instance i-2 ended before it could claim its job: "
        "Client.InstanceInitiatedShutdown; its console: docker-job: Docker does not run"
    )


def test_a_code_that_comes_without_a_console_is_explained() -> None:
    step = ends(job_of(booting()), terminated(cause="Client.InternalError"))
    assert (step.attempts[0].error_message or "").endswith(
        "ended before it could claim its job: Client.InternalError (it could not be started; "
        "often the KMS key of its disk may not be used; let the launcher's role and Spot's "
        "service-linked role use the KMS key of the volumes)"
    )


@pytest.mark.parametrize(
    ("attempt", "fact"),
    [
        (booting(), terminated(spot_interrupted=True)),
        (booting(interrupted_at=NOW), terminated()),
        (booting(), terminated(cause="Client.UserInitiatedShutdown")),
        (booting(), terminated(cause="Server.InsufficientInstanceCapacity")),
        (booting(), terminated(cause="vanished")),
        (booting(), terminated(cause="lifetime")),
        (booting(dies_by=NOW + timedelta(seconds=30)), terminated()),
        (booting(token_hash=b"x", heartbeat_at=NOW), terminated()),
        (booting(heartbeat_at=NOW), terminated()),  # its agent waited for its turn
    ],
)
def test_what_the_market_an_operator_or_a_limit_ends_has_not_failed_to_boot(
    attempt: Attempt, fact: InstanceTerminated
) -> None:
    step = ends(job_of(ended(7), replace(attempt, number=8)), replace(fact, attempt=8))
    assert not has_failed(step)
    assert step.job.status == "SCHEDULED"


def test_an_agent_that_claimed_and_fell_silent_has_booted() -> None:
    step = overdue(job_of(ended(1), booting(2, token_hash=b"x", heartbeat_at=NOW)))
    assert not has_failed(step)
    assert step.job.status == "SCHEDULED"


def test_a_claim_in_between_begins_the_count_again_and_an_interruption_does_not() -> None:
    claimed = ended(2, boot_failed=None, token_hash=b"x", heartbeat_at=NOW)
    assert overdue(job_of(ended(1), claimed, booting(3))).job.status == "SCHEDULED"
    interrupted = ended(2, boot_failed=None, cause="interrupted")
    assert overdue(job_of(ended(1), interrupted, booting(3))).job.status == "FAILED"


def test_failed_boots_use_up_the_budget_of_interruptions_too() -> None:
    rules = replace(RULES, boot_limit=9, interruption_budget=1)
    assert overdue(job_of(ended(1), booting(2)), rules).job.status == "FAILED"


def test_the_console_that_comes_after_the_end_is_quoted_once_in_attempt_and_job() -> None:
    whole_job = job_of(ended(1, error_message="no claim"))
    failed = replace(whole_job.job, status="FAILED", error_message="gave up: no claim")
    fact = terminated(cause="lost", console_output="kernel panic\n")
    step = ends(JobWithAttempts(failed, whole_job.attempts), fact)
    assert step.attempts[0].error_message == "no claim; its console: kernel panic"
    assert step.job.error_message == "gave up: no claim; its console: kernel panic"
    again = ends(JobWithAttempts(step.job, step.attempts), fact)
    assert (again.job, again.attempts) == (step.job, step.attempts)


def test_the_line_that_is_quoted_is_our_own_last_one_or_the_agents_and_short() -> None:
    assert boots.last_line("docker-job: one\ndocker-job: two\nPower down\n\n") == "docker-job: two"
    agent = '{"at": "2026-01-01", "event": "ended", "reason": "the claim was refused"}'
    ended = "docker-job: the agent has ended with status 1"
    assert boots.last_line(f"{agent}\n{ended}\nPower down") == f"{ended}, after {agent}"
    refused = '{"at": "2026-01-01", "event": "claim refused", "because": "another deployment"}'
    lines = f"{refused}\n{agent}\n{ended}"
    assert boots.last_line(lines) == f"{ended}, after {refused}"
    assert boots.last_line(f"other\n{ended}") == ended
    assert boots.last_line("a\n  b \n \n") == "b"
    assert boots.last_line(" \n") is None
    fact = terminated(console_output="x" * 1000)
    assert len(boots.end_message(booting(), fact, boot_failed=True)) < 450


# -- the circuit breaker


def failed(job_id: int, launched_at: datetime | None = None) -> FailedBoot:
    return FailedBoot(job_id=job_id, launched_at=launched_at, reason="Docker does not run")


def counted(state: Breaker, *boots_: FailedBoot, now: datetime = NOW) -> Breaker:
    return breaker.decide_failed(state, boots_, now, 0, RULES)[0]


def paused() -> Breaker:
    state, event = breaker.decide_failed(
        Breaker(), [failed(1), failed(1), failed(2)], NOW, 0, RULES
    )
    assert event is not None
    assert (event.sequence, event.failures) == (1, 3)
    assert event.until == NOW + timedelta(seconds=300)
    assert event.trial_seconds == 960
    assert event.message == (
        "launches are paused: 3 instances in a row have not booted; the last: Docker does not run"
    )
    return state


def test_failed_boots_of_one_job_alone_pause_nothing() -> None:
    state = counted(Breaker(), *[failed(1)] * 9)
    assert (state.failures, state.paused_until) == (RULES.boot_limit, None)
    assert counted(state, failed(2)).paused_until is not None


@pytest.mark.parametrize("boot_limit", [2, 9])
def test_a_job_that_never_boots_counts_a_few_times_and_leaves_the_pause_to_others(
    boot_limit: int,
) -> None:
    """Such as one whose disk is above the account's quota, tried for as long as that lasts."""
    rules = JobRules(boot_limit=boot_limit, boot_failures_pause=5)
    state = Breaker()
    for _ in range(50):
        assert not breaker.is_shared(state, 1, rules)
        state, event = breaker.decide_failed(state, [failed(1)], NOW, 0, rules)
        assert event is None
    state, event = breaker.decide_failed(state, [failed(2)], NOW, 0, rules)
    assert event is None
    assert not breaker.is_shared(state, 1, rules)
    state, event = breaker.decide_failed(state, [failed(3), failed(4)], NOW, 0, rules)
    assert event is not None
    paused_after = state.failures
    state = breaker.with_failed(state, [1, 1], rules)
    assert state.failures == paused_after + 2  # in the pause all count


def test_what_was_launched_before_the_pause_does_not_make_it_longer() -> None:
    state = paused()
    late = breaker.decide_failed(
        state, [failed(3, NOW - timedelta(seconds=9)), failed(4)], NOW, 0, RULES
    )
    assert late == (replace(state, failures=5), None)


def test_each_trial_that_does_not_boot_makes_the_next_pause_longer_up_to_an_hour() -> None:
    state, now, lengths = paused(), NOW, []
    for _ in range(5):
        assert state.paused_until is not None
        now = state.paused_until + timedelta(seconds=900)
        state, event = breaker.decide_failed(state, [failed(5, state.paused_until)], now, 0, RULES)
        assert event is not None
        lengths.append((event.until - now).total_seconds())
    assert lengths == [600, 1200, 2400, 3600, 3600]
    assert state.sequence == 6


def test_a_claim_ends_the_pause_and_the_next_one_is_short_again() -> None:
    state, event = breaker.decide_claimed(paused(), NOW)
    assert event is not None
    assert (event.sequence, state) == (
        2,
        Breaker(sequence=2, shared_from=NOW, shared_until=NOW),
    )
    again = counted(state, failed(1), failed(2), failed(3))
    assert again.paused_until == NOW + timedelta(seconds=300)
    closed, nothing = breaker.decide_claimed(counted(Breaker(), failed(1)), NOW)
    assert (closed, nothing) == (Breaker(), None)


def test_a_launcher_that_waits_for_a_pause_that_is_over_is_answered() -> None:
    assert breaker.decide_answer(paused(), 1) is None
    answer = breaker.decide_answer(Breaker(sequence=2), 1)
    assert answer is not None
    assert (answer[0].sequence, answer[1].sequence) == (3, 3)
    restored = breaker.decide_answer(Breaker(), 8)  # a database of before the pause
    assert restored is not None
    assert restored[1].sequence == 9


def test_what_anybody_may_read_names_no_job_and_no_console() -> None:
    state = paused()
    assert breaker.describe(state, NOW) == (
        "launches are paused until 2026-01-01T12:05:00Z: 3 instances in a row have not booted"
    )
    assert "but for one at a time" in (breaker.describe(state, NOW + timedelta(hours=1)) or "")
    assert breaker.describe(Breaker(failures=2), NOW) is None


@pytest.mark.parametrize("name", ["BOOT_LIMIT", "BOOT_FAILURES_PAUSE"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_limit_that_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    settings = Settings({f"DOCKER_JOB_{name}": value})
    with pytest.raises(BadSetting, match=f"DOCKER_JOB_{name}"):
        from_settings(settings, deployment="test", token_key="")
