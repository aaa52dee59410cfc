"""A job's course, event by event: every event at every state."""

import itertools
from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from services.api.agents.calls import Callback
from services.api.agents.refusals import Refused
from services.api.jobs import endings
from services.api.jobs.decisions import decide_cancel
from services.api.jobs.model import (
    ORDER,
    PHASES,
    Attempt,
    Job,
    JobRules,
    State,
    advance,
    requirements_of,
)
from shared.events.events import AttemptEnded, Event, JobFinished, JobScheduled, JobStarted
from tests.support.api.api_story import (
    DONE,
    FAILED,
    INTERRUPTED,
    NOW,
    RULES,
    STOPPED,
    TIMED_OUT,
    Story,
    a_job,
    after,
    an_attempt,
    delayed,
    launched,
    refused,
    terminated,
    warned,
)

STATES: tuple[State, ...] = get_args(State)
BEFORE_BOOTING: tuple[State, ...] = ("held", "scheduled", "requested", "delayed")
CLAIMED: tuple[State, ...] = ("pulling", "running", "stopping")


def at(state: State, **fields: Any) -> Story:
    """Make a job whose only attempt is in *state*; ended: it failed."""
    if state == "ended":
        job = a_job(status="FAILED", finished_at=NOW)
        return Story(job, an_attempt("ended", cause="failed", container_stopped=True, **fields))
    return Story(a_job(), an_attempt(state, **fields))


# -- the model


def test_every_state_has_a_place_and_all_but_the_end_a_phase() -> None:
    assert set(ORDER) == set(STATES)
    assert set(PHASES) == set(STATES) - {"ended"}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(STATES, STATES)))
def test_an_attempt_only_moves_to_the_right(old: State, new: State) -> None:
    attempt = an_attempt(old, waiting_because="x", waiting_until=NOW)
    moved = advance(attempt, new, after(5))
    if ORDER[new] > ORDER[old]:
        assert moved.state == new
        assert moved.entered[new] == after(5)
        assert (moved.waiting_because, moved.waiting_until) == (None, None)
    else:
        assert moved is attempt


@pytest.mark.parametrize(
    ("timeout", "lifetime"), [(None, 86_400), (60, 3660), (82_800, 86_400), (86_400, 86_400)]
)
def test_a_time_limit_bounds_the_instances_lifetime(timeout: int | None, lifetime: int) -> None:
    needs = requirements_of(a_job(timeout_seconds=timeout), JobRules())
    assert (needs.max_lifetime_seconds, needs.labels) == (lifetime, {})


# -- every fact at every state: what it moves, and where it is old news

WARNED: dict[str, str] = {
    **dict.fromkeys((*BEFORE_BOOTING, "booting"), "ended"),
    **dict.fromkeys(CLAIMED, "stopping"),
}
MOVES: dict[str, tuple[Callable[[], Event], dict[str, str]]] = {
    "delayed": (delayed, dict.fromkeys(BEFORE_BOOTING, "delayed")),
    "launched": (launched, dict.fromkeys(BEFORE_BOOTING, "booting")),
    "refused": (refused, dict.fromkeys(BEFORE_BOOTING, "ended")),
    "terminated": (terminated, dict.fromkeys(STATES, "ended")),
    "warned": (warned, WARNED),
    "recommended": (lambda: warned(rebalance=True), {}),
}


@pytest.mark.parametrize(("fact", "state"), list(itertools.product(MOVES, STATES)))
def test_a_fact_moves_an_attempt_to_the_right_or_not_at_all(fact: str, state: State) -> None:
    make, moves = MOVES[fact]
    story = at(state)
    story.deliver(make(), after(5))
    assert story.attempts[1].state == moves.get(state, state)


@pytest.mark.parametrize(("fact", "state"), list(itertools.product(MOVES, STATES)))
def test_an_event_received_twice_counts_once(fact: str, state: State) -> None:
    make, _ = MOVES[fact]
    once, twice = at(state), at(state)
    once.deliver(make(), after(5))
    twice.deliver(make(), after(5))
    twice.deliver(make(), after(9))
    assert (twice.job, twice.attempts, twice.published) == (once.job, once.attempts, once.published)


@pytest.mark.parametrize("fact", MOVES)
@pytest.mark.parametrize("status", ["DONE", "FAILED", "CANCELLED"])
def test_no_event_changes_a_job_that_is_over_or_publishes_anything(fact: str, status: Any) -> None:
    job = a_job(status=status, finished_at=NOW, exit_code=0)
    story = Story(job, an_attempt("ended", cause="done"))
    story.deliver(MOVES[fact][0](), after(5))
    assert story.job == job
    assert story.published == []
    assert story.attempts[1].cause == "done"


def test_what_is_known_of_an_instance_is_kept_though_its_attempt_is_over() -> None:
    story = Story(a_job(status="CANCELLED", finished_at=NOW), an_attempt("ended", instance_id=None))
    story.deliver(launched())
    story.deliver(terminated(at=after(60)))
    attempt = story.attempts[1]
    assert (attempt.instance_id, attempt.zone, attempt.market) == ("i-1", "us-east-1a", "spot")
    assert (attempt.instance_gone_at, attempt.billed_seconds, attempt.cost_usd) == (
        after(60),
        60,
        0.02,
    )
    assert attempt.check_at is None


FACTS = (delayed(seconds=30), delayed(seconds=60, message="later"), launched())


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(FACTS)))))
def test_the_launchers_facts_commute(order: tuple[int, ...]) -> None:
    story, straight = Story(), Story()
    for fact in FACTS:
        straight.deliver(fact)
    for place in order:
        story.deliver(FACTS[place])
    assert story.job == straight.job
    assert replace(story.current, entered={}) == replace(straight.current, entered={})
    assert story.published == straight.published


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_launch_and_claim_commute(order: tuple[int, ...]) -> None:
    story = Story()
    steps: list[Callable[[], Any]] = [
        lambda: story.deliver(launched()),
        lambda: story.claim(now=after(7)),
    ]
    for place in order:
        steps[place]()
    attempt = story.current
    assert (attempt.state, attempt.instance_id, attempt.zone) == ("booting", "i-1", "us-east-1a")
    assert (attempt.check_at, attempt.dies_by) == (after(67), after(3600))
    assert attempt.token_hash == b"token-1"


def test_an_older_report_of_a_delay_does_not_replace_a_newer_one() -> None:
    story = Story()
    story.deliver(delayed(seconds=60, message="newer"))
    assert story.deliver(delayed(seconds=30, message="older")) is False
    assert (story.current.waiting_because, story.current.waiting_until) == ("newer", after(60))


def test_a_termination_received_before_its_launch_means_the_instance_never_served() -> None:
    story = Story()
    story.deliver(terminated())
    story.deliver(launched())
    assert story.attempts[1].cause == "lost"
    assert story.job.attempt == 2
    assert story.attempts[2].state == "scheduled"


def test_the_end_of_another_instance_than_the_attempts_own_changes_nothing() -> None:
    for state in ("booting", *CLAIMED):
        story = at(state)
        assert story.deliver(terminated(instance="i-leaked")) is False
        assert story.attempts[1].state == state


def test_the_end_of_another_instance_does_not_release_what_is_held() -> None:
    story = at("running")
    story.look(after(60))
    assert story.deliver(terminated(instance="i-leaked")) is False
    assert story.attempts[2].state == "held"


def test_a_refusal_does_not_end_an_attempt_that_has_an_instance() -> None:
    for state in ("booting", *CLAIMED):
        story = at(state)
        assert story.deliver(refused()) is False


def test_a_refused_attempt_fails_its_job_with_the_launchers_message() -> None:
    story = Story()
    story.deliver(refused())
    assert (story.job.status, story.job.error_message) == ("FAILED", "bad image id")
    assert story.attempts[1].cause == "refused"
    assert story.names() == ["AttemptEnded", "JobFinished"]


# -- the agent's callbacks at every state


@pytest.mark.parametrize("phase", ["pulling", "running", "stopping"])
@pytest.mark.parametrize("state", ["booting", *CLAIMED])
def test_a_phase_moves_an_attempt_to_the_right_or_not_at_all(state: State, phase: State) -> None:
    story = at(state)
    moved = ORDER[phase] > ORDER[state]
    story.report(phase=phase, now=after(5))
    assert story.current.state == (phase if moved else state)
    running = moved and phase == "running"
    assert len(story.published_of(JobStarted)) == (1 if running else 0)
    assert story.job.status == ("RUNNING" if running else "SCHEDULED")


@pytest.mark.parametrize("state", ["booting", *CLAIMED])
@pytest.mark.parametrize(
    ("callback", "status", "exit_code"),
    [(DONE, "DONE", 0), (FAILED, "FAILED", 3), (TIMED_OUT, "FAILED", None)],
)
def test_a_final_callback_ends_attempt_and_job_at_once(
    state: State, callback: Callback, status: str, exit_code: int | None
) -> None:
    story = at(state)
    assert story.call_back(callback, now=after(5))
    job, attempt = story.job, story.attempts[1]
    assert (job.status, job.exit_code, job.finished_at) == (status, exit_code, after(5))
    assert job.error_message == callback.message
    assert (attempt.state, attempt.cause, attempt.ended_at) == ("ended", callback.cause, after(5))
    assert attempt.container_stopped
    [over, last] = story.published
    assert isinstance(over, AttemptEnded)
    assert (over.cause, over.terminate_after) == (callback.cause, after(5))
    assert isinstance(last, JobFinished)
    assert (last.status, last.exit_code, last.attempt) == (status, exit_code, 1)
    assert (last.name, last.labels, last.cause) == (job.name, job.labels, callback.cause)


@pytest.mark.parametrize("state", CLAIMED)
def test_at_the_notice_the_job_is_scheduled_again_while_the_attempt_goes_on(state: State) -> None:
    story = at(state)
    story.job = replace(story.job, status="RUNNING")
    assert story.call_back(INTERRUPTED, now=after(5))
    assert (story.job.status, story.job.attempt) == ("SCHEDULED", 1)
    assert (story.current.state, story.current.interrupted_at) == ("stopping", after(5))
    assert "interruption notice" in (story.current.waiting_because or "")
    assert (story.attempts[2].state, story.attempts[2].due_at) == ("scheduled", after(5))
    assert story.names() == ["JobScheduled"]
    assert story.call_back(INTERRUPTED, now=after(6)) is False
    story.report(phase="running", now=after(7))
    assert (story.job.status, story.current.state) == ("SCHEDULED", "stopping")


def test_the_notice_of_an_instance_that_has_not_claimed_ends_its_attempt() -> None:
    story = at("booting")
    story.deliver(warned(), after(5))
    assert (story.attempts[1].cause, story.job.attempt) == ("interrupted", 2)
    assert story.names() == ["AttemptEnded", "JobScheduled"]
    with pytest.raises(Refused):
        story.claim(1)


def test_when_the_container_has_stopped_the_replacement_takes_over() -> None:
    story = at("running")
    story.call_back(INTERRUPTED, now=after(5))
    story.call_back(STOPPED, now=after(8))
    assert (story.job.status, story.job.attempt) == ("SCHEDULED", 2)
    assert (story.attempts[1].cause, story.attempts[1].exit_code) == ("interrupted", 143)
    assert story.names() == ["JobScheduled", "AttemptEnded"]
    assert story.claim(2)


def test_a_container_that_has_stopped_without_a_notice_schedules_the_job_again() -> None:
    story = at("running")
    story.call_back(STOPPED, now=after(8))
    assert (story.job.status, story.job.attempt) == ("SCHEDULED", 2)
    assert (story.attempts[2].state, story.attempts[2].due_at) == ("scheduled", after(8))
    assert story.names() == ["AttemptEnded", "JobScheduled"]


def test_a_setting_delays_the_next_attempt() -> None:
    story = Story(a_job(), an_attempt("running"), rules=JobRules(reschedule_delay_seconds=300))
    story.call_back(STOPPED, now=after(5))
    assert story.attempts[2].due_at == after(305)


def test_a_container_that_exits_0_after_the_notice_is_done() -> None:
    story = at("running")
    story.call_back(INTERRUPTED, now=after(5))
    story.call_back(DONE, now=after(8))
    assert story.job.status == "DONE"
    assert story.names() == ["JobScheduled", "AttemptEnded", "AttemptEnded", "JobFinished"]
    assert (story.attempts[2].cause, story.attempts[2].container_stopped) == ("superseded", True)
    assert [each.attempt for each in story.published_of(AttemptEnded)] == [1, 2]


def test_a_container_that_fails_after_the_notice_fails_the_job() -> None:
    story = at("running")
    story.call_back(INTERRUPTED, now=after(5))
    story.call_back(FAILED, now=after(8))
    assert story.job.status == "FAILED"


CALLBACKS = {"done": DONE, "failed": FAILED, "timed_out": TIMED_OUT, "notice": INTERRUPTED}


@pytest.mark.parametrize("first", ["done", "failed", "timed_out"])
@pytest.mark.parametrize("second", [*CALLBACKS, "stopped"])
def test_after_a_final_callback_the_same_changes_nothing_and_any_other_is_refused(
    first: str, second: str
) -> None:
    story = at("running")
    story.call_back(CALLBACKS[first], now=after(5))
    before = (story.job, dict(story.attempts), list(story.published))
    callback = {**CALLBACKS, "stopped": STOPPED}[second]
    if first == second:
        assert story.call_back(callback, now=after(6)) is False
    else:
        with pytest.raises(Refused) as refused_with:
            story.call_back(callback, now=after(6))
        assert refused_with.value.status == 409
        assert refused_with.value.cause == CALLBACKS[first].cause
    assert (story.job, story.attempts, story.published) == before


@pytest.mark.parametrize("callback", [DONE, FAILED, INTERRUPTED, STOPPED])
def test_an_older_attempts_callback_is_refused(callback: Callback) -> None:
    story = at("running")
    story.call_back(STOPPED, now=after(5))
    with pytest.raises(Refused) as refused_with:
        story.call_back(callback, 1, now=after(6))
    assert refused_with.value.status == 409


def test_a_held_attempt_cannot_be_claimed() -> None:
    story = at("running")
    story.look(after(60))
    with pytest.raises(Refused):
        story.claim(2)


# -- cancelling


@pytest.mark.parametrize("state", [s for s in STATES if s != "ended"])
def test_a_job_is_cancelled_at_any_stage(state: State) -> None:
    story = at(state)
    assert story.cancel(after(5))
    assert (story.job.status, story.job.finished_at) == ("CANCELLED", after(5))
    assert (story.current.state, story.current.cause) == ("ended", "cancelled")
    assert [type(each).__name__ for each in story.published] == [
        "JobCancelled",
        "AttemptEnded",
        "JobFinished",
    ]


@pytest.mark.parametrize("state", [s for s in STATES if s != "ended"])
def test_only_a_container_that_may_run_gets_its_grace(state: State) -> None:
    story = at(state)
    story.cancel(after(5))
    [over] = story.published_of(AttemptEnded)
    grace = RULES.stop_grace_seconds + 10 if state in CLAIMED else 0
    assert over.terminate_after == after(5 + grace)


def test_an_agent_that_reports_rarely_has_its_grace_too() -> None:
    rules = replace(RULES, heartbeat_seconds=30)
    story = at("running")
    step = decide_cancel(story.whole_job, after(5), 0.0, rules)
    assert step is not None
    [over] = [each for each in step.events if isinstance(each, AttemptEnded)]
    assert over.terminate_after == after(5 + 30 + 5 + rules.stop_grace_seconds)
    assert step.attempts[0].stop_by == over.terminate_after


@pytest.mark.parametrize("grace", [0, 300])
def test_a_job_s_own_grace_decides_when_its_instance_may_end(grace: int) -> None:
    story = Story(a_job(stop_grace_seconds=grace), an_attempt("running"))
    story.cancel(after(5))
    [over] = story.published_of(AttemptEnded)
    assert over.terminate_after == after(5 + grace + 10)
    assert endings.may_add(story.current, after(5 + grace + 9))
    assert not endings.may_add(story.current, after(5 + grace + 10))


def test_the_lifetime_of_an_instance_has_room_for_the_grace() -> None:
    needs = requirements_of(a_job(timeout_seconds=60, stop_grace_seconds=600), JobRules())
    assert needs.max_lifetime_seconds == 60 + 3600 + 600


def test_a_finished_job_cannot_be_cancelled() -> None:
    assert at("ended").cancel() is False


def test_a_cancelled_attempt_stays_so_whatever_its_instance_does() -> None:
    story = at("running")
    story.cancel(after(5))
    story.deliver(terminated(at=after(9)))
    assert (story.job.status, story.job.attempt) == ("CANCELLED", 1)
    assert len(story.published) == 3


# -- silence, boot time-out, lifetime


def test_an_attempt_with_a_heartbeat_is_checked_again_when_it_may_be_silent() -> None:
    story = at("running")
    story.report(now=after(50))
    story.look(after(60))
    assert (story.current.state, story.current.check_at) == ("running", after(110))
    assert story.published == []


def test_a_silent_attempt_is_lost_and_the_next_one_held() -> None:
    story = at("running")
    story.look(after(60))
    assert (story.attempts[1].cause, story.attempts[1].ended_at) == ("lost", after(60))
    assert story.attempts[1].error_message == "no report by its agent for 60 s"
    assert (story.job.status, story.job.attempt) == ("SCHEDULED", 2)
    assert story.attempts[2].state == "held"
    assert "i-1 of attempt 1" in (story.attempts[2].waiting_because or "")
    assert story.names() == ["AttemptEnded"]
    story.deliver(terminated(at=after(70)), after(71))
    assert story.phases() == ["ended", "scheduled"]
    assert story.names() == ["AttemptEnded", "JobScheduled"]


def test_an_attempt_that_goes_silent_after_the_notice_was_interrupted() -> None:
    story = at("running")
    story.call_back(INTERRUPTED, now=after(5))
    story.look(after(65))
    assert (story.attempts[1].cause, story.attempts[1].container_stopped) == ("interrupted", False)
    assert (story.job.attempt, story.attempts[2].state) == (2, "scheduled")
    assert story.claim(2, after(66)) is False
    story.deliver(terminated(at=after(70)), after(71))
    assert story.claim(2, after(72))


def test_an_instance_that_never_speaks_is_lost_when_its_time_to_boot_is_over() -> None:
    story = Story()
    story.deliver(launched(at=after(10)))
    assert story.look(after(109)) is False
    assert story.look(after(110))
    assert story.attempts[1].cause == "lost"
    assert story.attempts[1].error_message == (
        "no claim by its instance within 100 s of its launch (m7g.medium in us-east-1a)"
    )


def test_the_maximum_lifetime_ends_an_attempt_however_alive_it_is() -> None:
    story = at("running", dies_by=after(60))
    story.report(now=after(59))
    story.look(after(60))
    assert (story.job.status, story.job.error_message) == (
        "FAILED",
        "its maximum lifetime passed",
    )
    assert story.attempts[1].cause == "timed_out"
    [over] = story.published_of(AttemptEnded)
    assert over.terminate_after == after(80)


@pytest.mark.parametrize(("spot", "cause"), [(True, "interrupted"), (False, "lost")])
def test_a_terminated_instance_ends_its_attempt_and_schedules_the_next(
    *, spot: bool, cause: str
) -> None:
    story = at("running")
    story.deliver(terminated(spot=spot), after(5))
    assert story.attempts[1].cause == cause
    assert story.attempts[1].error_message == "instance i-1 is terminated: it ended"
    assert story.attempts[2].state == "scheduled"
    assert story.names() == ["AttemptEnded", "JobScheduled"]


def test_an_instance_that_is_terminated_after_the_notice_was_interrupted() -> None:
    story = at("running")
    story.call_back(INTERRUPTED)
    story.deliver(terminated(spot=False), after(5))
    assert story.attempts[1].cause == "interrupted"


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (STOPPED, "gave up after 3 attempts, the last one was interrupted"),
        (
            replace(STOPPED, cause="lost", message="gone"),
            "gave up after 3 attempts, the last one was lost: gone",
        ),
    ],
)
def test_a_job_gives_up_after_its_last_attempt(callback: Callback, message: str) -> None:
    ended = [an_attempt("ended", number=number, cause="lost") for number in (1, 2)]
    ended = [replace(each, container_stopped=True) for each in ended]
    story = Story(a_job(attempt=3), *ended, an_attempt("running", number=3))
    story.call_back(callback, 3, now=after(5))
    assert (story.job.status, story.job.error_message) == ("FAILED", message)
    assert story.names() == ["AttemptEnded", "JobFinished"]


def test_every_attempt_but_the_last_is_followed_by_another() -> None:
    story = Story()
    for number in (1, 2, 3):
        assert not story.over
        story.deliver(launched(number))
        story.claim(number)
        story.call_back(STOPPED, number)
    assert story.job.status == "FAILED"
    assert [each.attempt for each in story.published_of(JobScheduled)] == [1, 2, 3]


def test_a_held_attempt_is_scheduled_once_and_only_when_it_is_held() -> None:
    story = at("running")
    story.look(after(60))
    story.deliver(terminated(), after(70))
    story.deliver(terminated(), after(80))
    [fact] = story.published_of(JobScheduled)
    assert story.attempts[2].due_at == fact.due_at == after(70), "what it waited for was no launch"


def test_a_cancelled_job_is_not_scheduled_by_the_end_of_its_lost_instance() -> None:
    story = at("running")
    story.look(after(60))
    story.cancel(after(65))
    story.deliver(terminated(), after(70))
    assert story.published_of(JobScheduled) == []
    assert story.attempts[2].cause == "cancelled"


def test_the_schedulers_event_has_the_instances_resources() -> None:
    job: Job = a_job(timeout_seconds=60)
    attempt: Attempt = an_attempt()
    fact = endings.job_scheduled(job, attempt, RULES)
    assert (fact.job_id, fact.attempt, fact.due_at) == (1, 1, NOW)
    assert fact.requirements.max_lifetime_seconds == 3660
