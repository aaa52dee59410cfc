"""What is kept for how long, and which finished job may be removed."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.api.jobs.model import Attempt, Job, JobRules, JobWithAttempts, Status
from services.api.jobs.retention import (
    LATE_LAUNCH,
    LATE_TERMINATION,
    Retention,
    RetentionDefaults,
    RetentionSettings,
    decide_blocking,
    decide_kept,
    describe,
    pause_after,
)
from shared.settings import FOREVER, BadSetting
from tests.support.api.api_world import a_config

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = JobRules()
NEW, UPGRADED = RetentionDefaults(90, 30), RetentionDefaults(None, None)


@pytest.mark.parametrize(
    ("settings", "defaults", "kept"),
    [
        (RetentionSettings(), NEW, (90, 30)),
        (RetentionSettings(), UPGRADED, (None, None)),
        (RetentionSettings(jobs_days=7), UPGRADED, (7, 7)),
        (RetentionSettings(logs_days=7), UPGRADED, (None, 7)),
        (RetentionSettings(jobs_days=FOREVER), NEW, (None, 30)),
        (RetentionSettings(jobs_days=FOREVER, logs_days=FOREVER), NEW, (None, None)),
        (RetentionSettings(logs_days=FOREVER), NEW, (90, 90)),
        (RetentionSettings(jobs_days=10), NEW, (10, 10)),
    ],
)
def test_a_setting_wins_over_the_deployments_default_and_a_log_goes_with_its_job(
    settings: RetentionSettings, defaults: RetentionDefaults, kept: tuple[int | None, int | None]
) -> None:
    assert decide_kept(settings, defaults) == Retention(*kept)


def test_what_is_kept_is_one_sentence() -> None:
    assert describe(Retention(90, 30)) == "jobs are kept 90 days, logs 30 days"
    assert describe(Retention(None, 1)) == "jobs are kept forever, logs 1 day"


def test_the_settings_are_days_or_forever() -> None:
    assert a_config().retention == RetentionSettings()
    assert a_config(KEEP_JOBS_DAYS="", KEEP_LOGS_DAYS="").retention == RetentionSettings()
    config = a_config(KEEP_JOBS_DAYS="forever", KEEP_LOGS_DAYS="7")
    assert config.retention == RetentionSettings(FOREVER, 7)


@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "week", "36501", "1" * 30, "٣", "Forever"])
def test_any_other_value_is_refused(wrong: str) -> None:
    with pytest.raises(BadSetting, match=r"KEEP_JOBS_DAYS .* a number of days .* or forever"):
        a_config(KEEP_JOBS_DAYS=wrong)


def job(status: Status = "DONE") -> Job:
    return Job(
        id=7, docker_image="alpine", env_vars={}, labels={}, scheduled_for=NOW, timezone="UTC",
        status=status, attempt=1, trace="t", created_at=NOW,
    )  # fmt: skip


ENDED = Attempt(
    job_id=7, number=1, state="ended", due_at=NOW, entered={}, cause="done", ended_at=NOW
)
LAUNCHED = replace(ENDED, instance_id="i-1", dies_by=NOW + timedelta(hours=5))
CONFIRMED = replace(LAUNCHED, instance_gone_at=NOW)


def blocking(attempt: Attempt, seconds: float = 0, status: Status = "DONE") -> str | None:
    whole_job = JobWithAttempts(job(status), (attempt,))
    return decide_blocking(whole_job, NOW + timedelta(seconds=seconds), RULES)


def test_a_job_whose_instances_are_known_to_be_terminated_may_be_removed() -> None:
    assert blocking(CONFIRMED) is None


def test_a_job_that_is_not_finished_may_not() -> None:
    assert blocking(CONFIRMED, status="SCHEDULED") == "job 7 is SCHEDULED: cancel it first"


@pytest.mark.parametrize(
    ("attempt", "bound", "reason"),
    [
        (
            LAUNCHED,
            timedelta(hours=5) + LATE_TERMINATION,
            "is not known to be terminated; it is assumed to be from 2026-01-02T05:00:00Z on",
        ),
        (
            replace(LAUNCHED, dies_by=None),
            timedelta(seconds=RULES.max_lifetime_seconds) + LATE_TERMINATION,
            "it is assumed to be from 2026-01-03T00:00:00Z on",
        ),
        (
            ENDED,
            LATE_LAUNCH,
            "attempt 1 of job 7 may still be reported as launched until 2026-01-01T01:00:00Z",
        ),
    ],
)
def test_what_may_still_be_reported_is_awaited_up_to_a_bound(
    attempt: Attempt, bound: timedelta, reason: str
) -> None:
    assert reason in (blocking(attempt) or "")
    assert blocking(attempt, bound.total_seconds() - 1) is not None
    assert blocking(attempt, bound.total_seconds()) is None


def test_an_attempt_that_was_never_due_or_was_refused_has_no_instance() -> None:
    assert blocking(replace(ENDED, due_at=NOW + timedelta(seconds=1))) is None
    assert blocking(replace(ENDED, cause="refused")) is None


def test_an_attempt_that_has_not_ended_is_awaited() -> None:
    held = Attempt(job_id=7, number=2, state="held", due_at=NOW, entered={})
    whole_job = JobWithAttempts(job(), (CONFIRMED, held))
    long_after = NOW + timedelta(days=400)
    assert decide_blocking(whole_job, long_after, RULES) == "attempt 2 of job 7 has not ended"


def test_batches_take_a_fifth_of_the_time_at_most() -> None:
    assert pause_after(1) == pytest.approx(4)
    assert pause_after(0) == 0.1
    assert pause_after(100) == 60
