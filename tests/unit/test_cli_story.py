"""A job's documents as the lines of `run`, and its end as a summary and an exit code."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docker_job.cli.following.outcome import exit_code, summary
from docker_job.cli.following.story import Story
from docker_job.cli.following.story_line import header
from docker_job.documents import Job
from docker_job.reading import read

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
PHASES = ("scheduled", "launching", "booting", "pulling", "running")
ASIDE = "     (on demand 0.178)"
SECONDS = {"scheduled": 0.0, "launching": 1.4, "booting": 38.2, "pulling": 6.0, "running": 3.0}


def attempt(phase: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    """Make an attempt that is in *phase*, on a Spot instance once that is known."""
    last = fields.pop("last", phase)
    entered = PHASES[: PHASES.index(last) + 1] if last in PHASES else (last,)
    found: dict[str, Any] = {
        "number": number,
        "phase": phase,
        "due_at": NOW.isoformat(),
        "phases": [
            {"phase": each, "entered_at": NOW.isoformat(), "seconds": SECONDS.get(each, 2.0)}
            for each in entered
        ],
    }
    if "booting" in entered:
        found |= {
            "instance_id": "i-0f3c91",
            "instance_type": "c7i.xlarge",
            "zone": "eu-west-1b",
            "market": "spot",
            "hourly_price_usd": 0.071,
            "on_demand_hourly_price_usd": 0.178,
        }
    return found | fields


def job(*attempts: dict[str, Any], status: str = "SCHEDULED", **fields: Any) -> Job:
    current = attempts[fields.get("attempt", len(attempts)) - 1]
    document = {
        "id": 218,
        "docker_image": "python:3.13-slim",
        "labels": {"team": "data"},
        "status": status,
        "phase": current["phase"] if current["phase"] != "ended" else status.lower(),
        "attempt": len(attempts),
        "scheduled_for": NOW.isoformat(),
        "created_at": NOW.isoformat(),
        "attempts": list(attempts),
    }
    return read(Job, document | fields)


def over(*attempts: dict[str, Any], status: str = "DONE", **fields: Any) -> Job:
    return job(
        *attempts,
        status=status,
        **{"finished_at": (NOW + timedelta(seconds=52)).isoformat(), **fields},
    )


def lines(story: Story, document: Job) -> list[str]:
    return [each.render() for each in story.feed(document, NOW)]


def live(story: Story, seconds: float = 0) -> str:
    line = story.live_line(NOW + timedelta(seconds=seconds))
    assert line is not None
    return line.render()


def test_the_header_names_the_job_its_image_and_its_labels() -> None:
    assert header(job(attempt("scheduled"))) == "job 218 · python:3.13-slim · team=data"
    named = job(attempt("scheduled"), name="nightly", labels={"gpu": ""})
    assert header(named) == "job 218 · nightly · python:3.13-slim · gpu"


def test_each_phase_has_one_line_with_its_time_in_columns() -> None:
    story = Story(live=True)
    assert lines(story, job(attempt("scheduled"))) == []
    lines(story, job(attempt("pulling", phase_detail="pulling 45 of 45 MB, 5 of 5 layers")))
    again = Story(live=True)
    again.feed(job(attempt("pulling", phase_detail="pulling 45 of 45 MB, 5 of 5 layers")), NOW)
    shown = lines(again, job(attempt("running"), status="RUNNING"))
    assert shown == [
        " ✓ pulling     python:3.13-slim  45 of 45 MB                   6.0 s",
    ]
    whole = Story(live=True)
    assert lines(whole, job(attempt("running"), status="RUNNING")) == [
        " ✓ scheduled   now                                             0.0 s",
        " ✓ launching   c7i.xlarge · eu-west-1b · Spot 0.071 USD/h      1.4 s" + ASIDE,
        " ✓ booting     i-0f3c91                                       38.2 s",
        " ✓ pulling     python:3.13-slim                                6.0 s",
    ]
    assert lines(whole, job(attempt("running"), status="RUNNING")) == []


def test_the_launch_has_its_line_once_it_is_known_what_was_launched() -> None:
    story = Story(live=True)
    unknown = attempt("booting", instance_type=None, zone=None, market=None)
    assert [each.split()[1] for each in lines(story, job(unknown))] == ["scheduled"]
    [launched] = lines(story, job(attempt("booting")))
    assert launched.startswith(" ✓ launching   c7i.xlarge · eu-west-1b · Spot 0.071 USD/h")


def test_the_live_line_goes_on_by_our_clock_from_the_time_of_the_api() -> None:
    story = Story(live=True)
    story.feed(job(attempt("running"), status="RUNNING"), NOW)
    assert live(story) == " ● running     00:03"
    assert live(story, 65) == " ● running     01:08"
    assert live(story, 3600) == " ● running     1:00:03"


def test_the_running_line_is_settled_once_above_the_first_output() -> None:
    story = Story(live=True)
    story.feed(job(attempt("running"), status="RUNNING"), NOW)
    assert [each.render() for each in story.settle_running(1)] == [" ● running     00:03"]
    assert list(story.settle_running(1)) == []
    end = over(attempt("ended", last="running", cause="done"))
    assert lines(story, end) == []


def test_output_of_a_container_that_was_too_quick_to_be_seen_has_its_line_too() -> None:
    story = Story(live=False)
    story.feed(over(attempt("ended", last="booting", cause="done")), NOW)
    assert [each.render() for each in story.settle_running(1)] == [" ● running     00:00"]


def test_a_container_that_printed_nothing_has_its_running_line_at_the_end() -> None:
    story = Story(live=True)
    story.feed(job(attempt("running"), status="RUNNING"), NOW)
    end = over(attempt("ended", last="running", cause="done"))
    assert lines(story, end) == [" ● running     00:03"]
    assert story.live_line(NOW) is None


def test_a_job_that_waits_says_why_and_until_when() -> None:
    because = "Spot quota for Standard instances is used up (64 of 64 vCPUs)"
    waits = job(
        attempt("waiting", waiting_because=because),
        waiting_because=because,
        waiting_until=(NOW + timedelta(seconds=40)).isoformat(),
    )
    expected = f" … waiting     {because}; next try in 40s"
    story = Story(live=True)
    assert lines(story, waits) == []
    assert live(story) == expected
    plain = Story(live=False)
    assert lines(plain, waits) == [expected]
    assert lines(plain, waits) == []


def test_a_job_that_is_scheduled_far_ahead_says_so() -> None:
    due = NOW + timedelta(hours=5)
    later = job(attempt("scheduled", due_at=due.isoformat()), scheduled_for=due.isoformat())
    expected = f" ○ scheduled   for {due.astimezone():%H:%M}, in 5h"
    plain = Story(live=False)
    if due.astimezone().date() == NOW.astimezone().date():
        assert lines(plain, later) == [expected]
    else:
        assert lines(plain, later)[0].endswith(", in 5h")
    assert lines(plain, later) == []


def test_an_interruption_is_one_line_with_the_notice_and_the_replacement() -> None:
    story = Story(live=True)
    story.feed(job(attempt("running"), status="RUNNING"), NOW)
    notice = NOW + timedelta(minutes=5)
    first = attempt("stopping", last="running", interrupted_at=notice.isoformat())
    first["phases"].append({"phase": "stopping", "entered_at": "", "seconds": 1.0})
    shown = lines(story, job(first, attempt("booting", 2), attempt=1))
    [interrupted] = [each for each in shown if "interrupted" in each]
    assert interrupted == (
        f" ↻ interrupted Spot notice {notice.astimezone():%H:%M:%S}, "
        "replacement booting (attempt 2)"
    )
    assert not any(
        "interrupted" in each for each in lines(story, job(first, attempt("pulling", 2)))
    )


def test_a_failed_attempt_says_how_it_ended_and_the_live_line_when_the_next_one_starts() -> None:
    story = Story(live=True)
    failed = attempt("ended", last="running", cause="failed", exit_code=3)
    due = (NOW + timedelta(seconds=30)).isoformat()
    again = job(
        failed,
        attempt("scheduled", 2, due_at=due),
        waiting_because="retry 1 of 2 at 12:00:30Z: exit code 3: boom",
    )
    assert lines(story, again)[-1] == " ✕ failed      exited 3; attempt 2 follows"
    assert live(story) == " ○ scheduled   retry 1 of 2 in 30s: exit code 3: boom"


def test_a_pull_that_is_kept_up_says_when_it_is_tried_again() -> None:
    detail = "the registry does not answer: connection refused; trying again in 5 s"
    story = Story(live=True)
    story.feed(job(attempt("pulling", phase_detail=detail)), NOW)
    assert live(story).startswith(" ◔ pulling     python:3.13-slim  trying again in 5 s")


def test_output_before_the_report_that_the_container_runs_stands_below_the_pull() -> None:
    story = Story(live=False)
    story.feed(job(attempt("pulling")), NOW)
    settled = [each.word for each in story.settle_running(1)]
    assert settled == ["pulling", "running"]
    assert lines(story, job(attempt("running"), status="RUNNING")) == []


def test_a_failed_pull_is_a_failed_line_with_the_reason() -> None:
    story = Story(live=True)
    first = attempt("ended", last="pulling", cause="pull_failed", error_message="no such host")
    shown = lines(story, job(first, attempt("scheduled", 2)))
    assert shown[-2:] == [
        " ✕ pulling     python:3.13-slim                                6.0 s",
        " ✕ pull failed no such host; attempt 2 follows",
    ]


def test_the_summary_says_how_long_on_what_and_for_how_much() -> None:
    last = attempt(
        "ended",
        last="running",
        cause="done",
        instance_gone_at=(NOW + timedelta(seconds=53.1)).isoformat(),
        cost_usd=0.0021,
        on_demand_usd=0.0042,
    )
    end = over(last, exit_code=0)
    assert summary(end) == (
        "exited 0 · 52s (ran 3s) · c7i.xlarge Spot eu-west-1b · 0.0021 USD (0.0042 on demand) · "
        "instance terminated 1.1 s after the end"
    )


def test_a_cost_that_is_not_known_yet_is_about_what_the_price_makes_it() -> None:
    ended_at = (NOW + timedelta(seconds=60)).isoformat()
    last = attempt("ended", last="running", cause="done", ended_at=ended_at)
    assert " · about 0.0012 USD (0.003 on demand)" in summary(over(last, exit_code=0))
    more = {"public_ipv4_hourly_usd": 0.036, "volume_hourly_usd": 0.036}
    with_more = attempt("ended", last="running", cause="done", ended_at=ended_at, other_prices=more)
    assert " · about 0.0024 USD" in summary(over(with_more, exit_code=0))


def test_an_attempt_whose_price_is_not_known_makes_the_cost_unknown_and_not_less() -> None:
    known = attempt("ended", last="running", cause="interrupted", cost_usd=0.002)
    unknown = attempt("ended", last="running", cause="done", hourly_price_usd=None)
    for attempts in ([unknown], [known, unknown]):
        text = summary(over(*attempts, exit_code=0))
        assert "cost not known" in text
        assert "USD" not in text
    others = {"public_ipv4_hourly_usd": None, "volume_hourly_usd": 0.036}
    over_at = (NOW + timedelta(seconds=60)).isoformat()
    part = attempt("ended", last="running", cause="done", ended_at=over_at, other_prices=others)
    assert "cost not known" in summary(over(part, exit_code=0))
    alone = attempt("ended", last="running", cause="done", cost_usd=0.002)
    no_list_price = alone | {"on_demand_hourly_price_usd": None, "on_demand_usd": None}
    assert "on demand" not in summary(over(known, no_list_price, exit_code=0))
    free = attempt("ended", last="running", cause="done", hourly_price_usd=0.0, cost_usd=0.0)
    assert "USD" not in summary(over(free, exit_code=0))


@pytest.mark.parametrize(
    ("status", "cause", "code", "expected", "words"),
    [
        ("DONE", "done", 0, 0, "exited 0"),
        ("FAILED", "failed", 3, 3, "exited 3"),
        ("FAILED", "failed", 137, 137, "exited 137"),
        ("FAILED", "failed", 256, 125, "exited 256"),
        ("FAILED", "timed_out", 0, 124, "timed out after 1h"),
        ("FAILED", "timed_out", None, 124, "timed out after 1h"),
        ("FAILED", "refused", None, 125, "failed: no such image"),
        ("CANCELLED", "cancelled", 0, 130, "cancelled (exited 0)"),
        ("CANCELLED", "cancelled", None, 130, "cancelled"),
    ],
)
def test_the_exit_code_is_the_containers_and_zero_only_if_the_job_is_done(
    status: str, cause: str, code: int | None, expected: int, words: str
) -> None:
    end = over(
        attempt("ended", last="running", cause=cause, exit_code=code),
        status=status,
        exit_code=code,
        timeout_seconds=3600,
        error_message="no such image\nand more",
    )
    assert exit_code(end) == expected
    assert summary(end).split(" · ")[0] == words
