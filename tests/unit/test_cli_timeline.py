"""A job for reading: its facts, and its attempts drawn to one scale."""

from datetime import UTC, datetime
from typing import Any

from docker_job.cli.output.timeline import BAR, attempt_columns, bar, facts

NOW = datetime(2026, 11, 30, 14, 30, tzinfo=UTC)


def phases(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"phase": phase, "seconds": seconds} for phase, seconds in pairs]


def test_a_bar_is_to_the_scale_of_the_longest_and_no_phase_vanishes() -> None:
    assert bar(phases(("launching", 10), ("running", 30)), 40) == "░" * 10 + "█" * 30
    assert bar(phases(("running", 20)), 40) == "█" * (BAR // 2)
    assert bar(phases(("pulling", 0.1), ("running", 40)), 40.1) == "▓" + "█" * BAR
    assert bar(phases(("pulling", 0)), 40) == ""
    assert bar(phases(("of a later release", 40)), 40) == "?" * BAR
    assert bar([], 0) == ""


def test_an_instance_that_did_not_boot_is_shown_with_its_console() -> None:
    attempts = [
        {"number": 1, "cause": "lost", "boot_failed": True, "console_output": "first"},
        {"number": 2, "cause": "lost", "boot_failed": True, "console_output": "a\nkernel panic"},
        {"number": 3, "cause": "lost"},
    ]
    job = {"id": 1, "docker_image": "alpine", "status": "FAILED", "attempts": attempts}
    assert dict(facts(job, NOW))["Console"] == "of attempt 2:\na\nkernel panic"
    end = next(each for each in attempt_columns(job) if each.heading == "END")
    assert [end.text(each) for each in attempts] == ["did not boot", "did not boot", "lost"]


def lines(instance: float | None, address: float | None, volume: float | None) -> dict[str, Any]:
    parts = {"instance_usd": instance, "public_ipv4_usd": address, "volume_usd": volume}
    return {"number": 1, "cost_lines": parts}


def test_the_cost_is_shown_by_its_lines_where_they_are_known() -> None:
    job = {"id": 1, "docker_image": "alpine", "status": "DONE", "cost_usd": 0.6}
    two = [lines(0.25, 0.03, 0.02), lines(0.2, 0.05, 0.05), lines(None, None, None)]
    text = "0.600 USD: instances 0.450, public IPv4 0.080, volumes 0.070"
    assert dict(facts(job | {"attempts": two}, NOW))["Cost"] == text
    for attempts in (
        [{"number": 1}],  # an API of an earlier release
        [lines(0.25, None, 0.02)],
        [lines(0.6, 0.0, 0.0)],  # nothing but the instance
    ):
        assert dict(facts(job | {"attempts": attempts}, NOW))["Cost"] == "0.600 USD"


def test_the_facts_are_those_that_there_are() -> None:
    job = {
        "id": 7,
        "name": "nightly",
        "docker_image": "alpine",
        "command": ["sh", "-c", "echo 'a b'"],
        "labels": {"team": "data"},
        "status": "FAILED",
        "phase": "failed",
        "exit_code": 1,
        "status_reason": "exited 1: no such table",
        "error_message": "no such table\nat line 3",
        "finished_at": NOW.isoformat(),
        "timeout_seconds": 3600,
        "retries": 0,
        "cost_usd": 0.002,
        "on_demand_usd": 0.004,
        "resources": {"vcpus": 4},
    }
    found = dict(facts(job, NOW))
    assert found["Job"] == "7 · nightly"
    assert found["Command"] == "sh -c 'echo '\"'\"'a b'\"'\"''"
    assert found["Status"] == "✕ Failed (1) 0s ago"
    assert found["Because"] == "exited 1: no such table"
    assert found["Error"] == "no such table\nat line 3"
    assert found["Time limit"] == "1h"
    assert found["Cost"] == "0.002 USD (0.004 on demand)"
    assert found["Resources"] == "vcpus 4"
    assert "Retries" not in found
    assert not {"Project", "Variables"} & found.keys()
    bare = {"id": 1, "docker_image": "alpine", "status": "SCHEDULED"}
    assert dict(facts(bare, NOW)) == {
        "Job": "1",
        "Image": "alpine",
        "Status": "○ Scheduled",
    }


def test_a_value_that_the_key_may_not_see_is_hidden_and_the_project_is_named_with_the_key() -> None:
    job = {
        "id": 7,
        "docker_image": "alpine",
        "status": "SCHEDULED",
        "env_vars": {"TOKEN": None, "MODE": "slow"},
        "project": "data",
        "created_by": "1f2e3d4c",
    }
    found = dict(facts(job, NOW))
    assert found["Variables"] == "TOKEN=(hidden), MODE=slow"
    assert found["Project"] == "data, scheduled with the key 1f2e3d4c"
    no_key = dict(facts(job | {"created_by": None, "project": "default"}, NOW))
    assert "Project" not in no_key


def test_an_attempt_says_how_it_ended_and_on_what() -> None:
    attempt = {
        "number": 2,
        "cause": "interrupted",
        "exit_code": 143,
        "instance_type": "c7i.large",
        "market": "spot",
        "zone": "eu-west-1b",
        "instance_id": "i-1",
        "cost_usd": 0.0004,
        "phases": phases(("running", 40)),
    }
    columns = attempt_columns({"attempts": [attempt]})
    assert [each.text(attempt) for each in columns] == [
        "2",
        "█" * BAR,
        "40s",
        "interrupted (143)",
        "c7i.large Spot eu-west-1b i-1",
        "0.0004",
    ]
    begun = {"number": 1, "phase": "booting"}
    assert [each.text(begun) for each in columns] == ["1", "", "0s", "booting", "–", "–"]
