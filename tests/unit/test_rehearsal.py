"""What `make rehearse` takes for a deviation, and how it tells what it saw."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from fake_aws.ledger import INTERRUPTED, Bill
from rehearsal import table
from rehearsal.checks import deviations, leaked_seconds
from rehearsal.scenario import Played
from rehearsal.outboxes import Told
from shared.events.events import AttemptEnded, InstanceLaunched

START = datetime(2026, 1, 1, tzinfo=UTC)
TAKEN, OTHER = "i-0000000000000000a", "i-0000000000000000b"


def attempt(number: int, instance_id: str, cause: str, cost: float) -> dict[str, Any]:
    ended = START + timedelta(seconds=30 * number)
    return {
        "number": number,
        "instance_id": instance_id,
        "cause": cause,
        "cost_usd": cost,
        "ended_at": ended.isoformat(),
    }


def job(**changes: Any) -> dict[str, Any]:
    return {
        "status": "DONE",
        "error_message": None,
        "cost_usd": 0.002,
        "wasted_usd": 0.0,
        "on_demand_usd": 0.004,
        "attempts": [
            attempt(1, TAKEN, "interrupted", 0.0),
            attempt(2, OTHER, "done", 0.002),
        ],
        **changes,
    }


def bill(instance_id: str, ended: float, cost: float, **changes: Any) -> Bill:
    made = Bill(
        instance_id=instance_id,
        market="spot",
        instance_type="m5.large",
        zone="us-east-1a",
        launched_at=START,
        running_at=START,
        ended_at=START + timedelta(seconds=ended),
        state="terminated",
        cause="Client.UserInitiatedShutdown",
        seconds=ended,
        billed_seconds=60.0,
        cost_usd=cost,
        on_demand_usd=0.004,
        tags={},
    )
    return replace(made, **changes)


PLAYED = Played(
    posted_at=START,
    job=job(),
    told=[],
    bills=[bill(TAKEN, 31, 0.0, cause=INTERRUPTED), bill(OTHER, 62, 0.002)],
    left=[],
)


def test_the_story_as_it_must_be_has_no_deviation() -> None:
    assert deviations(PLAYED, TAKEN) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"job": job(status="FAILED", error_message="no")}, "the job is FAILED, not DONE: no"),
        ({"job": job(cost_usd=0.003)}, "the job costs 0.003 USD, the account is billed 0.002000"),
        ({"left": [OTHER]}, f"instance {OTHER} is left, says EC2"),
        (
            {"bills": [*PLAYED.bills, bill("i-c", 62, 0.0)]},
            "instance i-c was launched for no attempt",
        ),
        (
            {"bills": [PLAYED.bills[0], bill(OTHER, 62, 0.0021)]},
            f"instance {OTHER} costs 0.002 USD by our sum and 0.002100 by the cloud's ledger",
        ),
        (
            {"bills": [PLAYED.bills[0], bill(OTHER, 160, 0.002)]},
            f"instance {OTHER} ran 100 s longer than its attempt",
        ),
        (
            {"bills": [PLAYED.bills[0], bill(OTHER, 62, 0.002, market="on-demand")]},
            f"instance {OTHER} is on-demand, and Spot was asked for",
        ),
    ],
)
def test_whatever_differs_is_said(changes: dict[str, Any], said: str) -> None:
    assert said in deviations(replace(PLAYED, **changes), TAKEN)


def test_an_attempt_that_ended_otherwise_is_a_deviation() -> None:
    lost = [attempt(1, TAKEN, "lost", 0.0), attempt(2, OTHER, "done", 0.002)]
    [said] = deviations(replace(PLAYED, job=job(attempts=lost)), TAKEN)
    assert said == "its attempts ended ['lost', 'done'], not interrupted and done"


def test_two_attempts_on_one_instance_are_a_deviation() -> None:
    said = deviations(PLAYED, OTHER)
    assert said == [
        f"its attempts were on ['{TAKEN}', '{OTHER}'], of which the market took {OTHER}"
    ]


def test_an_instance_that_is_nobodys_leaks_all_its_life() -> None:
    assert leaked_seconds(bill("i-c", 62, 0.0), PLAYED.job) == 62
    assert leaked_seconds(PLAYED.bills[1], PLAYED.job) == pytest.approx(2)


def test_an_event_that_names_no_instance_gets_its_attempts() -> None:
    told = [
        Told(
            at=START + timedelta(seconds=1),
            by="launcher",
            event=InstanceLaunched(
                job_id=1,
                attempt=1,
                launch_token="t",
                instance_id=TAKEN,
                instance_type="m5.large",
                zone="us-east-1a",
                market="spot",
                hourly_price_usd=0.03,
                launched_at=START,
                dies_by=START,
                launch_sequence=1,
            ),
        ),
        Told(
            at=START + timedelta(seconds=2.5),
            by="api",
            event=AttemptEnded(
                job_id=1, attempt=1, cause="done", ended_at=START, terminate_after=START
            ),
        ),
    ]
    lines = table.happened(replace(PLAYED, told=told)).splitlines()
    assert lines[1].split()[:6] == ["1.00", "InstanceLaunched", "launcher", "1", "1", TAKEN]
    assert lines[2].split() == ["2.50", "AttemptEnded", "api", "1", "1", TAKEN, "done"]


def test_the_ledgers_sum_is_that_of_its_lines_as_they_are_shown() -> None:
    bills = [bill(each, 60, 0.0187 / 60) for each in (TAKEN, OTHER)]
    assert "ledger          0.000624, " in table.summed_up(replace(PLAYED, bills=bills))
