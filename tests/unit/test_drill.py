"""The drill's plan, its verdict and its table."""

import json
from dataclasses import replace
from typing import Any

import pytest

from drill.__main__ import read_options
from drill.instances import read_runs
from drill.outages import NAMES, OUTAGES, Outage
from drill.plan import GATHER_SECONDS, LONG, SHORT, Form, PlannedJob, plan_wave
from drill.progress import Progress
from drill.table import COLUMNS, Row, format_notes, format_table
from drill.verdict import Figures, Observation, Run, judge

ENDS = PlannedJob("o-ends-1", "ends", 10)
FAILS = PlannedJob("o-fails-1", "fails", 10, exit_code=3)


def job(job_id: int, planned: PlannedJob, **changes: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "name": planned.key,
        "status": planned.status,
        "phase": planned.status.lower(),
        "waiting_because": None,
        "error_message": None,
        "exit_code": planned.exit_code,
        "attempts": [{"number": 1, "cause": "failed" if planned.exit_code else "done"}],
        **changes,
    }


GOOD = Observation(
    planned=(ENDS, FAILS),
    accepted={ENDS.key: 1, FAILS.key: 2},
    jobs={1: job(1, ENDS), 2: job(2, FAILS)},
    logs={1: f"would run\n{ENDS.line}\n", 2: f"{FAILS.line}\nsimulated: exit code 3\n"},
    runs=(Run(1, 1, starts=1), Run(2, 1, starts=1)),
    living=(),
    lost_events=0,
    recovery_seconds=4.2,
)


def with_job(planned: PlannedJob, **changes: Any) -> Observation:
    """Return the good observation, in which one job is another."""
    job_id = GOOD.accepted[planned.key]
    return replace(GOOD, jobs={**GOOD.jobs, job_id: job(job_id, planned, **changes)})


def counts(figures: Figures) -> tuple[int, int, int, int, int]:
    return (figures.lost, figures.twice, figures.results, figures.leaked, figures.events)


def test_an_outage_that_cost_nothing_is_all_zeros_and_has_no_notes() -> None:
    figures = judge(GOOD)
    assert (counts(figures), figures.good, figures.notes) == ((0, 0, 0, 0, 0), True, ())


LOST = {
    "not accepted": replace(GOOD, accepted={FAILS.key: 2}, jobs={2: GOOD.jobs[2]}),
    "unknown to the API": replace(GOOD, jobs={2: GOOD.jobs[2]}),
    "waiting for ever": with_job(
        ENDS, status="SCHEDULED", phase="launching", waiting_because="due 5 min ago", exit_code=None
    ),
    "still running": with_job(ENDS, status="RUNNING", phase="running", exit_code=None),
}


@pytest.mark.parametrize("seen", LOST.values(), ids=LOST)
def test_a_job_that_does_not_end_is_lost_and_its_result_is_not_counted_again(
    seen: Observation,
) -> None:
    figures = judge(seen)
    assert counts(figures) == (1, 0, 0, 0, 0)
    assert ENDS.key in figures.notes[0]
    assert not figures.good


def test_a_job_that_ends_in_the_wrong_status_is_lost_and_so_is_its_result() -> None:
    figures = judge(with_job(FAILS, status="DONE", exit_code=0))
    assert counts(figures) == (1, 0, 1, 0, 0)
    assert "is DONE and not FAILED" in figures.notes[0]


def test_a_container_that_started_twice_ran_twice_whatever_the_api_shows() -> None:
    on_two_instances = replace(GOOD, runs=(*GOOD.runs, Run(1, 2, starts=1)))
    assert counts(judge(on_two_instances)) == (0, 1, 0, 0, 0)
    twice_on_one = replace(GOOD, runs=(Run(1, 1, starts=2), GOOD.runs[1]))
    assert counts(judge(twice_on_one)) == (0, 1, 0, 0, 0)


def test_an_attempt_that_was_given_up_while_its_container_ran_counts_as_run_twice() -> None:
    attempts = [{"number": 1, "cause": "lost"}, {"number": 2, "cause": "done"}]
    assert counts(judge(with_job(ENDS, attempts=attempts))) == (0, 1, 0, 0, 0)


def test_an_attempt_that_was_lost_before_its_container_started_did_not_run_twice() -> None:
    attempts = [{"number": 1, "cause": "lost"}, {"number": 2, "cause": "done"}]
    seen = with_job(ENDS, attempts=attempts)
    assert judge(replace(seen, runs=(Run(1, 1, starts=0), Run(1, 2, starts=1)))).good


def test_a_job_that_was_accepted_twice_under_one_key_counts_as_run_twice() -> None:
    figures = judge(replace(GOOD, jobs={**GOOD.jobs, 3: job(3, ENDS)}))
    assert counts(figures) == (0, 1, 0, 0, 0)


def test_an_instance_whose_log_is_unknown_is_no_success() -> None:
    assert not judge(replace(GOOD, runs=(Run(1, 1, starts=0, unread=True), GOOD.runs[1]))).good


@pytest.mark.parametrize(
    "seen",
    [replace(GOOD, logs={**GOOD.logs, 1: "would run\n"}), with_job(FAILS, exit_code=None)],
    ids=["output", "exit code"],
)
def test_a_result_that_the_api_does_not_show_is_lost(seen: Observation) -> None:
    assert counts(judge(seen)) == (0, 0, 1, 0, 0)


def test_an_instance_of_a_job_that_is_over_is_leaked_and_one_of_a_lost_job_is_not() -> None:
    assert counts(judge(replace(GOOD, living=(1, 2)))) == (0, 0, 0, 2, 0)
    running = with_job(ENDS, status="RUNNING", phase="running", exit_code=None)
    assert counts(judge(replace(running, living=(1,)))) == (1, 0, 0, 0, 0)


def test_lost_events_and_no_recovery_are_no_success() -> None:
    assert not judge(replace(GOOD, lost_events=1)).good
    assert not judge(replace(GOOD, recovery_seconds=None)).good


def test_many_notes_are_cut() -> None:
    many = tuple(PlannedJob(f"o-{n}", "ends", 1) for n in range(40))
    figures = judge(replace(GOOD, planned=many, accepted={}, jobs={}, runs=()))
    assert figures.lost == 40
    assert figures.notes[-1] == "… and 28 more"


def test_the_table_has_a_row_for_each_outage_and_names_what_was_wrong() -> None:
    bad = judge(replace(GOOD, living=(1,), recovery_seconds=None))
    rows = [Row("API away", 301, 61, judge(GOOD)), Row("restarted", 12, 61, bad)]
    head, first, second = format_table(rows).splitlines()
    assert [name for name in COLUMNS if name in head] == list(COLUMNS)
    assert first.split() == ["API", "away", "301", "61", "0", "0", "0", "0", "0", "4.2"]
    assert second.split() == ["restarted", "12", "61", "0", "0", "0", "1", "0", "never"]
    assert "restarted: an instance of job 1 still runs" in format_notes(rows)


@pytest.mark.parametrize("outage", OUTAGES, ids=NAMES)
@pytest.mark.parametrize("form", [SHORT, LONG], ids=["short", "long"])
def test_in_each_outage_a_third_of_the_jobs_ends_a_third_fails_and_a_third_goes_on(
    outage: Outage, form: Form
) -> None:
    length = outage.length(short=form is SHORT)
    queued = bool(outage.away)
    wave = plan_wave(outage.name, form.jobs, length, outage.repair_seconds, queued=queued)
    kinds = [planned.kind for planned in wave.before]
    assert len(kinds) == form.jobs
    assert all(kinds.count(kind) >= form.jobs // 3 for kind in ("ends", "fails", "lasts"))
    assert {p.exit_code for p in wave.ending if p.kind == "fails"} == {3}
    gather = GATHER_SECONDS * queued
    longest = gather + length + outage.repair_seconds
    assert all(gather < p.seconds < longest for p in wave.ending), "in the middle of it"
    assert all(p.seconds > gather + length + outage.repair_seconds for p in wave.lasting)
    assert all(gather < p.due_in_seconds < gather + length for p in wave.due)
    assert bool(wave.queued) is queued
    keys = [p.key for p in wave.every]
    assert len(set(keys)) == len(keys)


def test_on_a_busy_engine_jobs_end_later_since_the_outage_begins_when_the_last_of_them_runs() -> (
    None
):
    wave = plan_wave("o", 21, 30, 3)
    usual, busy = wave.with_launches(1), wave.with_launches(40)
    assert usual == wave
    later = [
        after.seconds - before.seconds
        for before, after in zip(wave.ending, busy.ending, strict=True)
    ]
    assert later == pytest.approx([43.0] * 14)


def test_the_outages_are_those_that_the_issue_names_and_short_ones_outlast_the_silence() -> None:
    lengths = {outage.name: outage.seconds for outage in OUTAGES}
    assert lengths["api-away"] == 300
    assert lengths["postgres-frozen"] == lengths["postgres-read-only"] == 120
    assert lengths["postgres-logins"] == 60
    assert {f"queue-{name}" for name in ("api", "scheduler", "launcher", "reaper")} < set(NAMES)
    assert {"broker-lost", "restart"} < set(NAMES)
    silence = float(SHORT.settings["SILENCE_SECONDS"])
    away = ("api-away", "postgres-frozen", "postgres-read-only", "postgres-logins")
    assert all(o.short_seconds > 1.5 * silence for o in OUTAGES if o.name in away)


def test_the_starts_of_a_container_are_read_from_its_agent_s_log() -> None:
    lines = [
        json.dumps({"at": "2026-01-01T00:00:00+00:00", "event": "agent started"}),
        json.dumps({"at": "2026-01-01T00:00:02+00:00", "event": "container runs"}),
        "no JSON, container runs",
    ]
    assert read_runs("\n".join(lines)) == (1767225602.0,)


def test_an_unknown_outage_or_too_few_jobs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--only", "earthquake"], ["--jobs", "2"]):
        with pytest.raises(SystemExit):
            read_options(wrong)
    assert "at least 3" in capsys.readouterr().err
    assert read_options(["--short", "--only", "restart", "--jobs", "3"]).jobs == 3


def test_a_wait_that_is_in_vain_says_so_and_for_what() -> None:
    lines: list[str] = []
    progress = Progress(lines.append)
    assert progress.until("it holds", 60, lambda: True, lambda: "nothing")
    assert lines == []
    assert not progress.until("it never holds", -1, lambda: False, lambda: "3 jobs running")
    assert lines[-1].endswith("NOT SO within -1 s: it never holds (3 jobs running)")
