"""Jobs as the API shows them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.api.jobs import views
from services.api.jobs.columns import COLUMNS, NAMES
from services.api.jobs.listed import ListedJob
from services.api.jobs.model import TERMINAL, Attempt, Job, JobRules, State, Status
from services.api.jobs.waiting import waiting
from services.api.keys.caller import ANYONE, Caller
from services.api.submission.composing import Submission, compose, job_of
from services.api.submission.request import JobRequest
from shared.events.cloudevents import new_trace
from shared.events.requirements import Architecture, Capacity, Resources
from tests.support.api.api_story import (
    DONE,
    INTERRUPTED,
    RULES,
    STOPPED,
    Story,
    a_job,
    after,
    an_attempt,
    delayed,
    launched,
    terminated,
)
from tests.support.rows.messages import SOURCE

STATES: tuple[State, ...] = get_args(State)
STATUSES: tuple[Status, ...] = get_args(Status)
AS_JSON = [column.name for column in COLUMNS if column.is_json]


def shown(story: Story, seconds: float = 0) -> dict[str, Any]:
    attempts = [story.attempts[number] for number in sorted(story.attempts)]
    answer: dict[str, Any] = views.detailed(story.job, attempts, after(seconds), RULES)
    return answer


def test_a_listed_job_has_the_fields_that_were_promised() -> None:
    attempt = an_attempt("booting", spot_instance_request_id="sir-1")
    listed = views.listed(as_row(a_job(), attempt), after(0))
    promised = {
        "id",
        "docker_image",
        "env_vars",
        "scheduled_for",
        "spot_instance_request_id",
        "error_message",
        "status",
    }
    assert promised <= listed.keys()
    assert listed["spot_instance_request_id"] == "sir-1"


TEXTS = st.none() | st.text(max_size=5)
PAIRS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
TIMES = st.datetimes(timezones=st.just(UTC))
RESOURCES = st.builds(
    Resources,
    vcpus=st.none() | st.integers(0, 9),
    architecture=st.sampled_from([None, "arm64"]),
    instance_types=st.lists(st.text(max_size=3), max_size=2).map(tuple),
)


def as_row(job: Job, attempt: Attempt) -> ListedJob:
    """Return it as the database gives it for `/list`."""
    fields = msgspec.structs.asdict(attempt) | msgspec.structs.asdict(job)
    asked = {name: fields[name] for name in NAMES}
    asked |= {name: msgspec.Raw(msgspec.json.encode(fields[name])) for name in AS_JSON}
    asked_of_all = {"attempts": 1, "started_at": attempt.running_at, "given": asked}
    of_one = {name: fields.get(name) for name in ListedJob.__struct_fields__}
    return ListedJob(**of_one | {"running_at": attempt.running_at} | asked_of_all)


@given(st.data())
def test_a_row_of_the_list_is_shown_as_the_job_and_attempt_that_it_is_of(
    data: st.DataObject,
) -> None:
    draw, status = data.draw, data.draw(st.sampled_from(STATUSES))
    job = a_job(
        name=draw(TEXTS),
        command=draw(st.none() | st.lists(st.text(max_size=3), max_size=2)),
        env_vars=draw(PAIRS),
        labels=draw(PAIRS),
        scheduled_for=draw(TIMES),
        status=status,
        error_message=draw(TEXTS),
        finished_at=draw(TIMES) if status in TERMINAL else None,
        resources=draw(RESOURCES),
        secret_env=draw(st.lists(st.text(max_size=3), max_size=2)),
        secrets=draw(PAIRS),
    )
    state = "ended" if status in TERMINAL else draw(st.sampled_from(STATES[:-1]))
    attempt = an_attempt(
        state,
        due_at=draw(TIMES),
        waiting_because=draw(TEXTS),
        waiting_until=draw(st.none() | TIMES),
        heartbeat_at=draw(st.none() | TIMES),
        instance_id=draw(TEXTS),
    )
    row, now = as_row(job, attempt), draw(TIMES)
    as_it_is, as_a_row = views.detailed(job, [attempt], now, RULES), views.listed(row, now)
    assert [name for name in as_it_is if name in as_a_row] == list(as_a_row)
    as_it_is, as_a_row = (json.loads(msgspec.json.encode(each)) for each in (as_it_is, as_a_row))
    assert as_a_row["attempts"] == len(as_it_is.pop("attempts"))
    assert as_it_is | as_a_row == as_it_is | {"attempts": 1}


def test_a_jobs_status_has_the_fields_that_were_promised() -> None:
    status = shown(Story())
    assert {"status", "status_reason", "phase", "waiting_because", "attempts"} <= status.keys()
    assert {"cause", "exit_code", "instance_id", "phases"} <= status["attempts"][0].keys()


@pytest.mark.parametrize("state", STATES)
def test_no_answer_holds_a_token(state: State) -> None:
    attempt = an_attempt(state, token_hash=b"a-secret-hash")
    job = a_job(status="FAILED", finished_at=after(0)) if state == "ended" else a_job()
    answer = views.detailed(job, [attempt], after(0), RULES)
    assert b"token" not in msgspec.json.encode(answer)


PHASES = {
    "held": "waiting",
    "scheduled": "scheduled",
    "requested": "launching",
    "delayed": "waiting",
    "booting": "booting",
    "pulling": "pulling",
    "running": "running",
    "stopping": "stopping",
}


@pytest.mark.parametrize(("state", "phase"), list(PHASES.items()))
def test_each_state_is_shown_as_its_phase(state: State, phase: str) -> None:
    assert views.phase(a_job(), an_attempt(state, due_at=after(1)), after(0)) == phase


@pytest.mark.parametrize("status", ["DONE", "FAILED", "CANCELLED"])
def test_a_finished_jobs_phase_is_its_status_and_it_waits_for_nothing(status: Any) -> None:
    job = a_job(status=status, finished_at=after(0))
    attempt = an_attempt("ended", waiting_because="something")
    assert views.phase(job, attempt, after(0)) == status.lower()
    assert waiting(job, attempt, after(0)) == (None, None)


def test_the_reason_for_waiting_is_in_plain_words() -> None:
    def because(attempt: Any) -> tuple[str | None, Any]:
        return waiting(a_job(), attempt, after(0))

    assert because(an_attempt("scheduled", due_at=after(60))) == (
        "it is scheduled for 2026-01-01T00:01:00Z",
        after(60),
    )
    assert because(an_attempt("booting")) == ("instance i-1 is booting", after(100))
    assert because(replace(an_attempt("booting"), heartbeat_at=after(0))) == (None, None)
    assert because(an_attempt("running")) == (None, None)


DUE = (
    (0, "0 s"),
    (12.9, "12 s"),
    (60, "1 min 0 s"),
    (3599, "59 min 59 s"),
    (3600, "1 h 0 min"),
    (90_000, "1 d 1 h"),
)


@pytest.mark.parametrize("state", ["scheduled", "requested"])
@pytest.mark.parametrize(("seconds", "ago"), DUE)
def test_what_is_due_says_since_when_and_no_more_than_is_known(
    state: State, seconds: float, ago: str
) -> None:
    attempt, now = an_attempt(state, due_at=after(100)), after(100 + seconds)
    assert views.phase(a_job(), attempt, now) == "launching"
    because = f"due {ago} ago; no launch reported yet"
    assert waiting(a_job(), attempt, now) == (because, None)


def test_an_attempt_is_launching_from_the_time_at_which_it_is_due() -> None:
    attempt = an_attempt("scheduled", due_at=after(100))
    assert views.phase(a_job(), attempt, after(99.9)) == "scheduled"
    assert views.phase(a_job(), attempt, after(100)) == "launching"
    shown = views.detailed(a_job(), [attempt], after(103), RULES)["attempts"][0]
    assert shown["phase"] == "launching"
    assert shown["phases"] == [
        {"phase": "scheduled", "entered_at": after(0), "seconds": 100.0},
        {"phase": "launching", "entered_at": after(100), "seconds": 3.0},
    ]


def test_an_attempt_of_an_earlier_release_is_launching_from_its_recorded_request() -> None:
    attempt = an_attempt("requested", entered={"scheduled": after(0), "requested": after(7)})
    phases = views.detailed(a_job(), [attempt], after(9), RULES)["attempts"][0]["phases"]
    assert [(each["phase"], each["seconds"]) for each in phases] == [
        ("scheduled", 7.0),
        ("launching", 2.0),
    ]


def test_what_ended_or_was_launched_before_it_was_due_was_never_launching() -> None:
    story = Story(a_job(), an_attempt("scheduled", due_at=after(100)))
    story.cancel(after(5))
    assert [each["phase"] for each in shown(story, 500)["attempts"][0]["phases"]] == ["scheduled"]
    early = Story(a_job(), an_attempt("scheduled", due_at=after(100)))
    early.deliver(launched(at=after(99)), after(101))
    phases = shown(early, 500)["attempts"][0]["phases"]
    assert [each["phase"] for each in phases] == ["scheduled", "booting"]


def test_a_delay_and_a_notice_say_why_they_wait() -> None:
    story = Story()
    story.deliver(delayed(message="no capacity in three pools"))
    assert shown(story)["waiting_because"] == "no capacity in three pools"
    assert shown(story)["waiting_until"] == after(30)
    story.deliver(launched())
    story.claim()
    story.call_back(INTERRUPTED)
    assert "next one starts when its container has stopped" in shown(story)["waiting_because"]


def test_how_long_each_phase_took_adds_up() -> None:
    story = Story()
    story.deliver(launched(at=after(10)), after(11))
    story.claim(now=after(12))
    story.report(phase="pulling", now=after(12.5))
    story.report(phase="running", now=after(20))
    assert shown(story, 23.25)["attempts"][0]["phases"] == [
        {"phase": "scheduled", "entered_at": after(0), "seconds": 0.0},
        {"phase": "launching", "entered_at": after(0), "seconds": 10.0},
        {"phase": "booting", "entered_at": after(10), "seconds": 2.5},
        {"phase": "pulling", "entered_at": after(12.5), "seconds": 7.5},
        {"phase": "running", "entered_at": after(20), "seconds": 3.25},
    ]


def test_the_last_phase_of_an_attempt_ends_with_it() -> None:
    story = Story()
    story.cancel(after(5))
    assert shown(story, 500)["attempts"][0]["phases"][-1]["seconds"] == 5.0


def test_a_cloud_whose_clock_runs_ahead_makes_no_negative_time() -> None:
    story = Story()
    story.deliver(launched(at=after(100)), after(1))
    story.claim(now=after(2))
    story.report(phase="pulling", now=after(3))
    phases = shown(story, 4)["attempts"][0]["phases"]
    assert [each["seconds"] for each in phases] == [0.0, 100.0, 0.0, 1.0]


def test_times_are_written_in_utc_with_a_z() -> None:
    text = msgspec.json.encode(shown(Story())).decode()
    assert '"scheduled_for":"2026-01-01T00:00:00Z"' in text


@pytest.mark.parametrize("hours", [0, 5])
def test_a_time_of_another_zone_is_the_same_time(hours: int) -> None:
    job = a_job(scheduled_for=after(0) + timedelta(hours=hours))
    row = as_row(job, an_attempt())
    assert views.listed(row, after(0))["scheduled_for"] == after(hours * 3600)


def test_a_job_shows_its_cost_the_wasted_part_and_what_on_demand_would_have_cost() -> None:
    """Two attempts of a minute each, at 0.04 an hour on demand: the first was interrupted."""
    story = Story()
    for number, callback in ((1, STOPPED), (2, DONE)):
        story.deliver(launched(number))
        story.claim(number)
        story.call_back(callback, number)
        story.deliver(terminated(number, at=after(60)))
    answer = shown(story)
    assert (answer["cost_usd"], answer["wasted_usd"]) == (0.04, 0.02)
    assert answer["on_demand_usd"] == round(60 * 0.04 / 3600, 6)
    first, second = answer["attempts"]
    assert (first["cost_usd"], first["wasted_usd"]) == (0.02, 0.02)
    assert (second["cost_usd"], second["wasted_usd"]) == (0.02, 0.0)


def test_what_is_not_known_of_the_cost_is_null() -> None:
    money = ("cost_usd", "wasted_usd", "on_demand_usd")
    story = Story()
    assert [shown(story)[name] for name in money] == [None, None, None]
    story.deliver(replace(launched(), on_demand_hourly_price_usd=None))
    story.deliver(terminated(spot=True))
    assert [shown(story)["attempts"][0][name] for name in money] == [0.02, 0.02, None]
    story.deliver(launched(2))
    assert [shown(story)[name] for name in money] == [0.02, 0.02, None]
    story.deliver(replace(terminated(2), cost_usd=None))
    assert [shown(story)["attempts"][1][name] for name in money[:2]] == [None, None]
    assert [shown(story)[name] for name in money] == [None, None, None]


# -- a job that was accepted just now

TEXTS = st.text(max_size=8)
VARIABLES = st.dictionaries(TEXTS, TEXTS, max_size=3)
LEAST = datetime(1000, 1, 1)  # noqa: DTZ001 - `timezones` below has the zone
TIMES = st.datetimes(LEAST, timezones=st.just(UTC))
NUMBERS = st.integers(0, 2**31 - 1)
RESOURCES = st.builds(
    Resources,
    vcpus=st.none() | NUMBERS,
    memory_mib=st.none() | NUMBERS,
    gpus=st.none() | NUMBERS,
    architecture=st.none() | st.sampled_from(get_args(Architecture)),
    disk_gib=st.none() | NUMBERS,
    instance_types=st.lists(TEXTS, max_size=2).map(tuple),
)
JOB_REQUESTS = st.builds(
    JobRequest,
    docker_image=TEXTS,
    scheduled_for=TIMES,
    timezone=TEXTS,
    env_vars=VARIABLES,
    command=st.none() | st.lists(TEXTS, max_size=3),
    labels=VARIABLES,
    timeout_seconds=st.none() | NUMBERS,
    name=st.none() | TEXTS,
    resources=st.just(Resources()) | RESOURCES,
    capacity=st.sampled_from(get_args(Capacity)),
    spot_wait_seconds=st.none() | NUMBERS,
    retries=NUMBERS,
    secret_env=VARIABLES,
    secrets=VARIABLES,
    registry_auth=st.none() | TEXTS,
)
RULE_SETS = st.builds(JobRules, interruption_budget=NUMBERS, pull_budget=NUMBERS)


@given(job_request=JOB_REQUESTS, now=TIMES, rules=RULE_SETS, at_once=st.booleans())
def test_a_fresh_job_is_shown_as_the_general_way_shows_it(
    job_request: JobRequest, now: datetime, rules: JobRules, *, at_once: bool
) -> None:
    """Compare byte for byte: the order of the fields too."""
    if at_once:
        job_request = replace(job_request, scheduled_for=now)
    caller = Caller(key="1f2e3d4c", project="data") if at_once else ANYONE
    submission = Submission([job_request], new_trace(), caller, 3 if at_once else None)
    job = job_of(job_request, 7, now, submission)
    written = compose(job, job_request, submission, rules, None, SOURCE)
    general = views.detailed(written.job, [written.attempt], now, rules)
    assert written.answer == msgspec.json.encode(general)


def test_fresh_jobs_do_not_show_each_others_fields() -> None:
    full = a_job(labels={"team": "data"}, resources=Resources(vcpus=2), scheduled_for=after(9))
    before = msgspec.json.encode(views.fresh(a_job(), an_attempt(), RULES))
    views.fresh(full, an_attempt(due_at=after(9)), RULES)
    assert msgspec.json.encode(views.fresh(a_job(), an_attempt(), RULES)) == before
