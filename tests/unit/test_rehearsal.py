"""The deviations that `make rehearse` finds, and the tables that it prints."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from fake_aws.ledger import INTERRUPTED, Bill
from rehearsal import table
from rehearsal.checks import deviations, leaked_seconds
from rehearsal.outboxes import PublishedEvent
from rehearsal.scenario import Outcome
from shared.events.events import AttemptEnded, InstanceLaunched

START = datetime(2026, 1, 1, tzinfo=UTC)
OTHER_USD = 0.0001
OTHER_LINES = {"public_ipv4_usd": OTHER_USD, "volume_usd": OTHER_USD}
FREE = 2 * OTHER_USD
"""The cost of an instance that is free itself: of its address and its volume."""

INTERRUPTED_ID, OTHER = "i-0000000000000000a", "i-0000000000000000b"


def attempt(number: int, instance_id: str, cause: str, cost: float) -> dict[str, Any]:
    ended = START + timedelta(seconds=30 * number)
    return {
        "number": number,
        "instance_id": instance_id,
        "cause": cause,
        "cost_usd": cost,
        "cost_lines": {"instance_usd": cost - 2 * OTHER_USD, **OTHER_LINES},
        "ended_at": ended.isoformat(),
    }


def job(**changes: Any) -> dict[str, Any]:
    return {
        "status": "DONE",
        "error_message": None,
        "cost_usd": 0.002 + FREE,
        "wasted_usd": FREE,
        "on_demand_usd": 0.004,
        "attempts": [
            attempt(1, INTERRUPTED_ID, "interrupted", FREE),
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
        instance_usd=cost - FREE,
        **OTHER_LINES,
    )
    return replace(made, **changes)


ADDED = {"public_ipv4_usd": 0.0, "volume_usd": 0.0002}
OUTCOME = Outcome(
    posted_at=START,
    job=job(),
    events=[],
    bills=[bill(INTERRUPTED_ID, 31, FREE, cause=INTERRUPTED), bill(OTHER, 62, 0.002)],
    left=[],
)


def test_the_scenario_as_it_must_be_has_no_deviation() -> None:
    assert deviations(OUTCOME, INTERRUPTED_ID) == []


@pytest.mark.parametrize(
    ("changes", "deviation"),
    [
        ({"job": job(status="FAILED", error_message="no")}, "the job is FAILED, not DONE: no"),
        ({"job": job(cost_usd=0.003)}, "the job costs 0.003 USD, the account is billed 0.002200"),
        ({"left": [OTHER]}, f"instance {OTHER} is not terminated in EC2"),
        (
            {"bills": [*OUTCOME.bills, bill("i-c", 62, 0.0)]},
            "instance i-c belongs to no attempt",
        ),
        (
            {"bills": [OUTCOME.bills[0], bill(OTHER, 62, 0.0021)]},
            f"instance {OTHER} costs 0.002 USD in the API and 0.002100 in the cloud's ledger",
        ),
        (
            {"bills": [OUTCOME.bills[0], bill(OTHER, 62, 0.002, **ADDED)]},
            f"volume_usd of instance {OTHER} is 0.0001 in the API and 0.0002 in the cloud's ledger",
        ),
        (
            {"bills": [bill(INTERRUPTED_ID, 31, 0.002, cause=INTERRUPTED), OUTCOME.bills[1]]},
            "an instance was billed that was interrupted within its first hour",
        ),
        (
            {"bills": [OUTCOME.bills[0], bill(OTHER, 160, 0.002)]},
            f"instance {OTHER} ran 100 s longer than its attempt",
        ),
        (
            {"bills": [OUTCOME.bills[0], bill(OTHER, 62, 0.002, market="on-demand")]},
            f"instance {OTHER} is on-demand, not Spot",
        ),
    ],
)
def test_whatever_differs_is_a_deviation(changes: dict[str, Any], deviation: str) -> None:
    assert deviation in deviations(replace(OUTCOME, **changes), INTERRUPTED_ID)


def test_an_attempt_that_ended_otherwise_is_a_deviation() -> None:
    lost = [attempt(1, INTERRUPTED_ID, "lost", FREE), attempt(2, OTHER, "done", 0.002)]
    [deviation] = deviations(replace(OUTCOME, job=job(attempts=lost)), INTERRUPTED_ID)
    assert deviation == "its attempts ended ['lost', 'done'], not interrupted and done"


def test_two_attempts_on_one_instance_are_a_deviation() -> None:
    deviation = deviations(OUTCOME, OTHER)
    assert deviation == [
        f"its attempts were on ['{INTERRUPTED_ID}', '{OTHER}'], of which {OTHER} was interrupted"
    ]


def test_an_orphaned_instance_leaks_all_its_life() -> None:
    assert leaked_seconds(bill("i-c", 62, 0.0), OUTCOME.job) == 62
    assert leaked_seconds(OUTCOME.bills[1], OUTCOME.job) == pytest.approx(2)


def test_an_event_that_names_no_instance_gets_its_attempts() -> None:
    events = [
        PublishedEvent(
            at=START + timedelta(seconds=1),
            by="launcher",
            event=InstanceLaunched(
                job_id=1,
                attempt=1,
                launch_token="t",
                instance_id=INTERRUPTED_ID,
                instance_type="m5.large",
                zone="us-east-1a",
                market="spot",
                hourly_price_usd=0.03,
                launched_at=START,
                dies_by=START,
                launch_sequence=1,
            ),
        ),
        PublishedEvent(
            at=START + timedelta(seconds=2.5),
            by="api",
            event=AttemptEnded(
                job_id=1, attempt=1, cause="done", ended_at=START, terminate_after=START
            ),
        ),
    ]
    lines = table.event_table(replace(OUTCOME, events=events)).splitlines()
    assert lines[1].split()[:6] == [
        "1.00",
        "InstanceLaunched",
        "launcher",
        "1",
        "1",
        INTERRUPTED_ID,
    ]
    assert lines[2].split() == ["2.50", "AttemptEnded", "api", "1", "1", INTERRUPTED_ID, "done"]


def test_the_ledgers_sum_is_that_of_its_lines_as_they_are_shown() -> None:
    bills = [bill(each, 60, 0.0187 / 60) for each in (INTERRUPTED_ID, OTHER)]  # 0.00031166…
    assert "ledger          0.000624, " in table.summary(replace(OUTCOME, bills=bills))
