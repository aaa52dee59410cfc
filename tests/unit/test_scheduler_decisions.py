"""The scheduler's decisions, and the two rules that all sweeps share."""

from datetime import UTC, datetime, timedelta

import pytest

from services.scheduler.config import SchedulerConfig, from_settings
from services.scheduler.decisions import decide_request
from services.scheduler.model import TRANSITIONS, Timer
from shared.events.events import InstanceRequested
from shared.events.requirements import Requirements
from shared.runtime.passes import next_pass
from shared.settings import BadSetting, Settings
from shared.states import settled, sources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=7)


def test_a_late_timer_still_names_the_time_that_was_asked_for() -> None:
    requirements = Requirements(max_lifetime_seconds=60, labels={"team": "a"})
    timer = Timer(job_id=1, attempt=2, due_at=NOW, requirements=requirements, trace="t")
    assert decide_request(timer) == InstanceRequested(
        job_id=1, attempt=2, due_at=NOW, requirements=requirements
    )


def test_only_a_waiting_timer_fires_or_is_cancelled() -> None:
    assert sources(TRANSITIONS, "fired") == ["waiting"]
    assert sources(TRANSITIONS, "cancelled") == ["waiting"]
    assert settled(TRANSITIONS) == {"fired", "cancelled"}


def test_a_full_batch_means_another_pass_at_once() -> None:
    assert next_pass(NOW, full=True, next_due=LATER) == NOW


def test_a_pass_that_emptied_the_table_leaves_the_next_to_the_interval() -> None:
    assert next_pass(NOW, full=False, next_due=None) is None


def test_the_next_pass_is_when_the_next_row_is_due() -> None:
    assert next_pass(NOW, full=False, next_due=LATER) == LATER


def test_a_due_row_that_another_replica_holds_does_not_make_the_sweep_spin() -> None:
    assert next_pass(NOW, full=False, next_due=NOW) == NOW + timedelta(seconds=1)


def test_settings_left_out_have_the_defaults_of_the_class() -> None:
    assert from_settings(Settings({})) == SchedulerConfig()


def test_a_batch_of_nothing_is_refused_by_name() -> None:
    with pytest.raises(BadSetting, match="DOCKER_JOB_SCHEDULER_BATCH"):
        from_settings(Settings({"DOCKER_JOB_SCHEDULER_BATCH": "0"}))
