"""Ends for which EC2 has the reason: they are no job's fault. And failed boots of many jobs."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from services.api.jobs import boots, breaker
from services.api.jobs.breaker import Breaker, FailedBoot
from services.api.jobs.decisions import decide_overdue, decide_terminated
from services.api.jobs.model import Attempt, JobWithAttempts, Step
from services.api.jobs.retry_limits import LONGEST_EXCUSED_SECONDS, REASON_CHARACTERS
from services.api.jobs.waiting import waiting
from shared.events.events import AttemptEnded
from tests.unit.test_api_boots import NOW, RULES, booting, ended, ends, job_of, overdue, terminated

CODES = {
    "Client.VolumeLimitExceeded": "ask AWS for more",
    "Client.InternalError": "KMS key of the volumes",
    "Client.InvalidKMSKey.InvalidState": "KMS key of the volumes",
    "Client.InvalidSnapshot.NotFound": "DOCKER_JOB_EC2_IMAGE_ID",
    "Client.SomethingNew": "EC2's documents",
    "Client.VolumeLimitExceeded: Volume limit exceeded": "ask AWS for more",
    "Server.InternalError": None,
    "Server.ScheduledStop": None,
}


def placed(number: int = 1) -> Attempt:
    return booting(number, instance_type="m5.large", zone="us-east-1a")


def last_of(step: Step) -> Attempt:
    return max(step.attempts, key=lambda each: each.number)


def after(whole_job: JobWithAttempts, step: Step) -> JobWithAttempts:
    """Return the job after *step*, with an instance for its next attempt."""
    for each in step.attempts:
        whole_job = whole_job.with_attempt(each)
    following = placed(whole_job.attempts[-1].number)
    return JobWithAttempts(step.job, whole_job.with_attempt(following).attempts)


@pytest.mark.parametrize(("code", "change"), list(CODES.items()))
def test_what_the_account_a_setting_or_aws_is_at_fault_for_fails_no_job(
    code: str, change: str | None
) -> None:
    whole_job, delays = job_of(placed()), []
    for _ in range(30):
        step = ends(whole_job, terminated(whole_job.job.attempt, cause=code))
        assert step.job.status == "SCHEDULED"
        following = last_of(step)
        because, until = waiting(step.job, following, NOW)
        assert until == following.due_at
        assert f": boot failed: instance i-{whole_job.job.attempt} (m5.large in us-" in str(because)
        assert code in str(because)
        assert change is None or change in str(because)
        assert (following.to_change is None) == (change is None)
        delays.append((following.due_at - NOW).total_seconds())
        whole_job = after(whole_job, step)
    assert delays[:11] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, LONGEST_EXCUSED_SECONDS]
    assert set(delays[11:]) == {LONGEST_EXCUSED_SECONDS}  # 24 attempts a day, not 144
    # Nothing of that is used up when instances fail to boot by themselves.
    assert overdue(whole_job).job.status == "SCHEDULED"


@pytest.mark.parametrize("code", CODES)
def test_code_and_change_are_not_cut_off(code: str) -> None:
    attempt = booting(1, instance_type="u7in-24tb.224xlarge", zone="ap-southeast-2a")
    fact = terminated(cause=code, instance_id="i-0123456789abcdef0")
    message = boots.end_message(attempt, fact, boot_failed=True)
    assert len(message) <= REASON_CHARACTERS


@pytest.mark.parametrize("code", CODES)
def test_such_an_end_counts_for_the_pause_of_launches(code: str) -> None:
    step = ends(job_of(booting()), terminated(cause=code))
    [failed] = breaker.failed_boots(step.events, step.attempts)
    assert code in failed.reason
    assert (failed.to_change is None) == (CODES[code] is None)


def test_a_lack_of_capacity_counts_as_an_interruption_and_is_no_failed_boot() -> None:
    whole_job, code = job_of(placed()), "Server.InsufficientInstanceCapacity"
    for number in range(1, RULES.interruption_budget + 1):
        step = ends(whole_job, terminated(number, cause=code))
        assert step.job.status == "SCHEDULED"
        assert breaker.failed_boots(step.events, step.attempts) == []
        assert (last_of(step).retry_because or "").startswith(
            f"retry {number} of {RULES.interruption_budget}: instance lost: "
        )
        whole_job = after(whole_job, step)
    last = ends(whole_job, terminated(whole_job.job.attempt, cause=code))
    assert last.job.status == "FAILED"
    assert "EC2 had no capacity for it after all" in (last.job.error_message or "")


@pytest.mark.parametrize("code", [*CODES, "Client.InstanceInitiatedShutdown"])
def test_a_fault_of_the_account_says_nothing_about_a_pool(code: str) -> None:
    step = ends(job_of(booting()), terminated(cause=code))
    [over] = [each for each in step.events if isinstance(each, AttemptEnded)]
    # A fault of AWS may be a zone's.
    assert over.account_fault == (CODES.get(code) is not None)


@pytest.mark.parametrize("code", ["Client.UserInitiatedShutdown", "Client.InstanceTerminated"])
def test_an_operator_s_end_counts_as_an_interruption(code: str) -> None:
    rules = replace(RULES, interruption_budget=1)
    whole_job = job_of(ended(1, boot_failed=None), booting(2))
    assert ends(whole_job, terminated(2, cause=code), rules).job.status == "FAILED"


def test_after_a_claim_ec2_s_reason_counts_as_before() -> None:
    claimed = booting(token_hash=b"x", heartbeat_at=NOW)
    step = ends(job_of(claimed), terminated(cause="Server.ScheduledStop"))
    assert not step.attempts[0].excused


def test_a_failed_boot_names_type_and_zone() -> None:
    step = overdue(job_of(placed()))
    assert step.attempts[0].error_message == (
        "no claim by its instance within 900 s of its launch (m5.large in us-east-1a)"
    )
    assert step.attempts[0].to_change == boots.CHECK


# -- a fault that the instances of many jobs share


def test_once_the_fault_is_shared_no_failed_boot_counts_against_a_job() -> None:
    whole_job = job_of(ended(1), booting(2))
    late = NOW + timedelta(hours=1)
    step = decide_overdue(whole_job, whole_job.current, late, 0, RULES, shared=True)
    assert (step.job.status, step.attempts[0].excused) == ("SCHEDULED", True)
    [over] = [each for each in step.events if isinstance(each, AttemptEnded)]
    assert over.boot_failed  # for the breaker, the console and the launcher
    by_itself = decide_terminated(
        whole_job, whole_job.current, terminated(2), NOW, 0, RULES, shared=True
    )
    assert by_itself is not None
    assert by_itself.job.status == "SCHEDULED"


def test_the_fault_is_shared_from_the_failed_boot_that_opens_the_breaker() -> None:
    state = Breaker(failures=2, job_ids=(1,))
    assert not breaker.is_shared(Breaker(failures=1, job_ids=(1,)), 2, RULES)
    assert not breaker.is_shared(state, 1, RULES)  # one job alone may ask for what does not boot
    assert breaker.is_shared(state, 2, RULES)
    assert breaker.is_shared(breaker.with_failed(Breaker(), [1, 1], RULES), 2, RULES)
    assert breaker.is_shared(Breaker(paused_until=NOW), 1, RULES)


def opened() -> Breaker:
    boots_ = [FailedBoot(job_id=each, launched_at=NOW, reason="no claim") for each in (1, 2, 3)]
    return breaker.decide_failed(Breaker(), boots_, NOW, 0, RULES)[0]


def test_the_failed_boots_that_opened_it_are_excused_also_after_the_pause() -> None:
    later = NOW + timedelta(hours=1)
    whole_job = job_of(
        ended(1, ended_at=NOW - timedelta(seconds=1)), ended(2), ended(3, ended_at=later)
    )
    assert [each.number for each in breaker.excuse(opened(), whole_job)] == [2, 3]
    closed, _ = breaker.decide_claimed(opened(), NOW + timedelta(minutes=5))
    assert [each.number for each in breaker.excuse(closed, whole_job)] == [2]
    again = breaker.decide_answer(closed, 9)
    assert again is not None
    assert [each.number for each in breaker.excuse(again[0], whole_job)] == [2]
    assert breaker.excuse(Breaker(), whole_job) == []


def test_a_console_that_comes_in_the_pause_is_published_once_until_the_same_time() -> None:
    said = ended(1, error_message="no claim; its console: docker-job: Docker does not run")
    state = opened()
    decided = breaker.decide_console(state, [ended(2, error_message="no claim"), said], RULES)
    assert decided is not None
    published, event = decided
    assert (event.sequence, event.until) == (state.sequence + 1, state.paused_until)
    assert event.message.endswith("no claim; its console: docker-job: Docker does not run")
    assert breaker.decide_console(published, [said], RULES) is None
    before = replace(said, ended_at=NOW - timedelta(seconds=1))
    assert breaker.decide_console(state, [before], RULES) is None  # not of this pause
    assert breaker.decide_console(Breaker(), [said], RULES) is None


def test_a_pause_names_what_to_change_to_all_and_the_last_failure_to_users() -> None:
    failed = [
        FailedBoot(job_id=each, launched_at=NOW, reason="no claim", to_change=boots.CHECK)
        for each in (1, 2, 3)
    ]
    state, event = breaker.decide_failed(Breaker(), failed, NOW, 0, RULES)
    assert event is not None
    assert event.to_change == boots.CHECK
    assert event.message == (
        f"launches are paused: 3 instances in a row have not booted ({boots.CHECK}); "
        "the last: no claim"
    )
    assert (breaker.describe(state, NOW) or "").endswith(f"have not booted ({boots.CHECK})")
