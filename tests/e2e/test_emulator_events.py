"""EC2's events in the queue of an emulator, in AWS's documented shapes; and the doctor there.

The queue is the emulator's own SQS. The sweep over EC2's list and the silence of an agent are far
away here, so that what follows an event follows from it.
"""

import itertools
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.emulators.emulated_world import (
    World,
    has_image,
    name_image,
    open_world,
    running,
    when_settled,
)
from tests.support.run.state import ROOT
from tests.support.waiting import until

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(400)]

FAR = {"REAP_WATCH_SECONDS": "600", "SILENCE_SECONDS": "600"}
ACCOUNT = "123456789012"
STRANGER = "i-0123456789abcdef0"


@pytest.fixture(params=["moto", "ministack"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with open_world(request.param, **FAR) as world:
        if not has_image(world.emulator):
            name_image(world)
        yield world


def event(detail_type: str, instance_id: str, **detail: Any) -> dict[str, Any]:
    """Return an event as AWS documents it, with members that we do not know.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
    """
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "aws.ec2",
        "account": ACCOUNT,
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": "us-east-1",
        "resources": [f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{instance_id}"],
        "detail": {"instance-id": instance_id, **detail, "not-yet-known": {"to": ["us"]}},
        "replay-name": "of an archive",
        "not-yet-known": None,
    }


def warning(instance_id: str) -> dict[str, Any]:
    """Return the notice of two minutes.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    found = event(
        "EC2 Spot Instance Interruption Warning", instance_id, **{"instance-action": "terminate"}
    )
    return found | {"resources": [f"arn:aws:ec2:us-east-1a:instance/{instance_id}"]}


def recommendation(instance_id: str) -> dict[str, Any]:
    """Return the word of an elevated risk.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html
    """
    return event("EC2 Instance Rebalance Recommendation", instance_id)


def change(instance_id: str, state: str) -> dict[str, Any]:
    """Return a change of state, of which the example has no version.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html
    """
    found = event("EC2 Instance State-change Notification", instance_id, state=state)
    del found["version"]
    return found


def send(world: World, *events: dict[str, Any] | str) -> None:
    """Send each event twice: EventBridge delivers at least once."""
    sqs = world.emulator.client("sqs")
    for each, _ in itertools.product(events, range(2)):
        body = each if isinstance(each, str) else json.dumps(each)
        sqs.send_message(QueueUrl=world.queue, MessageBody=body)


def attempts(world: World, job_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.system.job(job_id)["attempts"]
    return found


def until_empty(world: World) -> None:
    """Wait until the queue holds no message, seen or unseen."""
    sqs = world.emulator.client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def is_empty() -> bool:
        asked = sqs.get_queue_attributes(QueueUrl=world.queue, AttributeNames=names)
        return all(int(asked["Attributes"][name]) == 0 for name in names)

    until(is_empty, what="messages are left in the queue")


def take(world: World, instance_id: str) -> None:
    """End an instance and send what EC2 sends then."""
    world.machines.terminate(instance_id)
    send(world, change(instance_id, "shutting-down"), change(instance_id, "terminated"))


def test_what_the_events_of_a_queue_bring_about(world: World) -> None:
    system = world.system
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "600"})
    first = running(system, job_id)["instance_id"]

    send(
        world,
        "no JSON",
        "[]",
        event("EC2 Spot Instance Request Fulfillment", first),
        warning(STRANGER),
        change(STRANGER, "terminated"),
        recommendation(first),
    )
    until(lambda: attempts(world, job_id)[0]["rebalance_at"], what="no recommendation is shown")
    until_empty(world)
    [attempt] = attempts(world, job_id)
    assert (attempt["interrupted_at"], attempt["phase"]) == (None, "running")

    send(world, warning(first))
    until(lambda: len(attempts(world, job_id)) == 2, what="the notice launches no other instance")
    assert attempts(world, job_id)[0]["interrupted_at"]
    take(world, first)
    second = running(system, job_id, 2)["instance_id"]
    assert attempts(world, job_id)[0]["cause"] == "interrupted"

    take(world, second)
    third = running(system, job_id, 3)["instance_id"]
    assert attempts(world, job_id)[1]["cause"] == "lost", "no notice was given"
    assert len({first, second, third}) == 3

    assert system.http.delete(f"/jobs/{job_id}").status_code == 200
    take(world, third)
    assert when_settled(world, job_id)["status"] == "CANCELLED"
    until_empty(world)
    letters = system.http.get("/deadletters").json()
    assert letters["total"] == 0, letters


def test_the_doctor_examines_an_emulator_with_findings_and_no_fault_of_its_own(
    world: World,
) -> None:
    before = world.machines.states()
    system = world.system
    done = subprocess.run(
        [sys.executable, "-m", "operations.doctor", "--json"],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if "DOCKER_JOB" not in name},
            **world.emulator.environment(),
            **system.settings,
            "DOCKER_JOB_DATA_DIR": str(system.data_dir / "data"),
            "DOCKER_JOB_PORT": str(system.port),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in {0, 1}, done.stderr
    found = json.loads(done.stdout)
    checks = found["checks"]
    print("\n".join(f"{each['status']} {each['name']}: {each['found']}" for each in checks))
    assert "bug of docker-job" not in done.stdout
    assert done.stderr == ""
    failed = [each for each in checks if each["status"] == "fail"]
    assert done.returncode == (1 if failed else 0)
    names = {each["name"]: each["status"] for each in checks}
    assert names["credentials"] == "ok"
    assert len(checks) > 20
    assert world.machines.states() == before, "it launches nothing"
