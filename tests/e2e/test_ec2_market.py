"""Thirty jobs under faults: answers lost, calls throttled, capacity and quota exhausted.

The whole system runs on the fake AWS, and every instance boots its user data. The cloud's registry,
calls and ledger are the evidence.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from fake_aws import CloudSettings
from fake_aws.ledger import Bill, total
from fake_aws.settings import REQUEST_BUCKETS, Bucket
from rehearsal.checks import CENT, LEAK_BOUND_SECONDS
from rehearsal.stage import Stage, instances_left, open_stage
from tests.support.systems.api_client import TERMINAL, ApiClient
from tests.support.waiting import until

JOBS = 30
TAKEN = 5
SEED = 11
STORY_SECONDS = 240
TYPES = "m5.large,c5.large"
CLOUD = CloudSettings(
    seed=SEED,
    speed=20.0,
    boot="process",
    price_step_seconds=86_400.0,
    pool_size=1,
    spot_vcpus=20,  # ten instances of the two types above
    request_buckets={"CreateFleet": Bucket(3, 1), **REQUEST_BUCKETS},
)
FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "CreateFleet", "kind": "lost_after", "chance": 0.3},
    {"action": "CreateFleet", "kind": "lost_before", "chance": 0.1},
    {"action": "CreateFleet", "kind": "error_after", "chance": 0.1},
    {"action": "CreateFleet", "code": "RequestLimitExceeded", "status": 503, "chance": 0.1},
    {"action": "TerminateInstances", "kind": "lost_after", "chance": 0.2},
    {"action": "TerminateInstances", "code": "RequestLimitExceeded", "status": 503, "chance": 0.2},
    {"action": "DescribeInstances", "code": "Unavailable", "status": 503, "chance": 0.1},
)
JOB = {
    "docker_image": "alpine",
    "scheduled_for": "now",
    "capacity": "spot",
    "env_vars": {"SIMULATE_SECONDS": "3"},
}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(
        CLOUD,
        EC2_INSTANCE_TYPES=TYPES,
        EC2_POOL_REST_SECONDS="0.5",
        LAUNCH_RETRY_SECONDS="0.5",
        LAUNCH_RETRY_LONGEST_SECONDS="2",
        LOG_LEVEL="warning",
        INTERRUPTION_MARGIN_SECONDS="5",
    ) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[ApiClient]:
    client = ApiClient(stage.system.url)
    yield client
    client.http.close()


def live_through(stage: Stage, client: ApiClient) -> None:
    """Wait until each job has ended with its instances; interrupt the first running ones."""
    interrupted: set[str] = set()

    def all_over() -> bool:
        jobs = client.jobs()
        for job in jobs:
            runs = job["phase"] == "running" and job["attempt"] == 1
            if runs and len(interrupted) < TAKEN and job["instance_id"] not in interrupted:
                interrupted.add(job["instance_id"])
                stage.cloud.control.interrupt(job["instance_id"])
        return all(job["status"] in TERMINAL for job in jobs)

    until(all_over, STORY_SECONDS, "every job is over")
    assert len(interrupted) == TAKEN
    until(lambda: not instances_left(stage), STORY_SECONDS, "every instance is terminated")
    until(
        lambda: all(all_terminated(client.job(job["id"])) for job in client.jobs()),
        STORY_SECONDS,
        "that is known",
    )


def all_terminated(job: dict[str, Any]) -> bool:
    """Return whether the system has recorded the end of each of its instances."""
    launched = [each for each in job["attempts"] if each["instance_id"] is not None]
    return all(each["instance_gone_at"] is not None for each in launched)


def leaked(bill: Bill, ended: dict[str, str]) -> float:
    """Return how much longer than its attempt it ran, by the cloud's clock."""
    assert bill.ended_at is not None
    end = datetime.fromisoformat(ended[bill.instance_id])
    return max(0.0, (bill.ended_at - end).total_seconds())


@pytest.mark.timeout(480)
def test_no_attempt_holds_two_instances_none_is_forgotten_and_the_bill_is_the_clouds(
    stage: Stage, client: ApiClient
) -> None:
    control = stage.cloud.control
    for fault in FAULTS:
        control.fail(**{"times": None, **fault})
    assert client.http.post("/schedule", json=[JOB] * JOBS).status_code == 201
    live_through(stage, client)

    jobs = [client.job(job["id"]) for job in client.jobs()]
    attempts = [each for job in jobs for each in job["attempts"]]
    bills = control.ledger()
    held = [each["instance_id"] for each in attempts if each["instance_id"] is not None]
    outcomes = Counter(
        (each.action, each.outcome)
        for each in control.calls()
        if each.action in {"CreateFleet", "TerminateInstances"}
    )
    ended = {each["instance_id"]: each["ended_at"] for each in attempts}
    seconds = [leaked(each, ended) for each in bills if each.instance_id in ended]
    ours = sum(job["cost_usd"] for job in jobs)
    print(f"\n{JOBS} jobs, seed {SEED}: {dict(Counter(each['cause'] for each in attempts))}")
    print(f"calls: {dict(outcomes)}")
    print(
        f"leaked_instance_seconds: {sum(seconds):.1f} of {len(bills)} instances, "
        f"most {max(seconds):.1f}; cost {ours:.6f} USD, ledger {total(bills):.6f}"
    )

    assert {job["status"] for job in jobs} == {"DONE"}
    assert [each["cause"] for each in attempts].count("done") == JOBS
    assert outcomes["CreateFleet", "lost"] > 0
    assert outcomes["CreateFleet", "RequestLimitExceeded"] > 0
    # One instance an attempt, one attempt an instance, and no unknown instance.
    assert sorted(each.instance_id for each in bills) == sorted(held)
    assert control.running() == []
    assert max(seconds) <= LEAK_BOUND_SECONDS
    # Ours are whole seconds from the launch on, the ledger's begin when the instance runs.
    slack = sum(CENT + 2 * each.on_demand_usd / max(1.0, each.billed_seconds) for each in bills)
    assert ours == pytest.approx(total(bills), abs=slack)
