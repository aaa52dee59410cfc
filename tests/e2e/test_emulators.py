"""The whole life of a job on emulators of AWS that others have written: moto's server, ministack.

Our strict fake AWS and our code have the same authors, who may misread AWS twice. These emulators
were written from AWS's documents by others; where one of them does less than AWS (no price history,
no Spot requests, no user data on the instance), the system must do with what it gets.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support.emulators.machines import EmulatedMachines
from tests.support.emulators.programs import Emulator, start_ministack, start_moto
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(300)]

ROLE = "docker-job-instance"
AMI = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": "ec2.amazonaws.com"},
        }
    ],
}
STARTS = {"moto": start_moto, "ministack": start_ministack}


class World(NamedTuple):
    """An emulator with its machines, and the system that launches there."""

    emulator: Emulator
    machines: EmulatedMachines
    system: EmbeddedSystem


def make_role(emulator: Emulator) -> str:
    """Make the instances' role with its profile; return the role's ARN."""
    iam = emulator.client("iam")
    document = json.dumps(TRUST)
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)["Role"]
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
    return str(role["Arn"])


def settings(emulator: Emulator, role_arn: str, queue: str) -> dict[str, str]:
    """Return the system's settings: AWS's minutes are seconds here."""
    return {
        "COMPUTE_URL": "ec2://us-east-1",
        "EC2_INSTANCE_PROFILE": ROLE,
        "INSTANCE_ROLE_ARN": role_arn,
        "INTERRUPTION_QUEUE_URL": queue,
        "STS_URL": emulator.url,
        "EC2_INSTANCE_TYPES": "m5.large",
        "BOOT_SECONDS": "20",
        "HEARTBEAT_SECONDS": "0.5",
        "INTERRUPTION_MARGIN_SECONDS": "1",
        "LAUNCH_RETRY_SECONDS": "0.5",
        "LAUNCH_RETRY_LONGEST_SECONDS": "2",
        "METADATA_POLL_SECONDS": "0.25",
        "REAP_WATCH_SECONDS": "0.5",
        "RETRY_FIRST_SECONDS": "0.2",
        "RUNTIME": "simulated",
        "STOP_GRACE_SECONDS": "1",
    }


@pytest.fixture(params=["moto", "ministack"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Run the system on each emulator."""
    emulator = STARTS[request.param]()
    role_arn = make_role(emulator)
    queue = emulator.client("sqs").create_queue(QueueName="notices")["QueueUrl"]
    machines = EmulatedMachines(emulator, ROLE, role_arn)
    system = EmbeddedSystem(**settings(emulator, role_arn, queue))
    try:
        system.start(**emulator.environment())
        yield World(emulator, machines, system)
    finally:
        system.close()
        machines.close()
        emulator.close()


def has_image(emulator: Emulator) -> bool:
    """Return whether the public parameter with the image's id is there, as on AWS."""
    ssm = emulator.client("ssm")
    try:
        ssm.get_parameter(Name=AMI)
    except ssm.exceptions.ParameterNotFound:
        return False
    return True


def name_image(world: World) -> None:
    """Restart the system with an image of the emulator, as its message asks."""
    image = world.emulator.client("ec2").describe_images()["Images"][0]["ImageId"]
    world.system.interrupt()
    world.system.start(**world.emulator.environment(), DOCKER_JOB_EC2_IMAGE_ID=image)


def running(system: EmbeddedSystem, job_id: int, attempt: int = 1) -> dict[str, Any]:
    """Wait until attempt *attempt* of the job runs; return the job."""

    def runs() -> bool:
        job = system.job(job_id)
        return bool(job["phase"] == "running" and job["attempt"] == attempt)

    until(runs, what=f"job {job_id} does not run: {system.job(job_id)}", seconds=60)
    return system.job(job_id)


def when_settled(world: World, job_id: int) -> dict[str, Any]:
    """Return the job once all its instances are terminated, in the emulator too."""

    def settled() -> bool:
        attempts = world.system.job(job_id)["attempts"]
        return all(each["instance_gone_at"] for each in attempts if each["instance_id"])

    until(settled, what=f"job {job_id}: an instance is left", seconds=60)
    job = world.system.job(job_id)
    states = world.machines.states()
    ids = [each["instance_id"] for each in job["attempts"] if each["instance_id"]]
    assert {states.get(each, "terminated") for each in ids} <= {"terminated"}
    return job


def waits_for_the_image(world: World) -> None:
    """A job waits without the parameter with the image's id, and runs when an image is named."""
    system = world.system
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "1"})

    def because() -> str:
        return str(system.job(job_id)["waiting_because"])

    until(lambda: "ParameterNotFound" in because(), what="the missing parameter is not named")
    assert "DOCKER_JOB_EC2_IMAGE_ID" in because()
    name_image(world)
    system.follow(job_id)
    assert when_settled(world, job_id)["status"] == "DONE"


def is_done(world: World) -> None:
    """A job is launched on Spot, runs, is done, and its instance is terminated."""
    job_id = world.system.schedule(env_vars={"SIMULATE_SECONDS": "1"})
    world.system.follow(job_id)
    job = when_settled(world, job_id)
    assert job["status"] == "DONE"
    assert [each["market"] for each in job["attempts"]] == ["spot"]


def survives_an_interruption(world: World) -> None:
    """A job whose instance is reclaimed is done on a second one."""
    job_id = world.system.schedule(env_vars={"SIMULATE_SECONDS": "4"})
    first = running(world.system, job_id)["instance_id"]
    world.machines.interrupt(first, 4)
    world.system.follow(job_id)
    job = when_settled(world, job_id)
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["interrupted", "done"]
    assert len({each["instance_id"] for each in job["attempts"]}) == 2


def is_cancelled(world: World) -> None:
    """A running job is cancelled, and its instance is terminated."""
    job_id = world.system.schedule(env_vars={"SIMULATE_SECONDS": "600"})
    running(world.system, job_id)
    assert world.system.http.delete(f"/jobs/{job_id}").status_code == 200
    assert when_settled(world, job_id)["status"] == "CANCELLED"


def survives_a_failed_boot(world: World) -> None:
    """An instance that never boots is given up after its time; the next one runs the job."""
    system = world.system
    world.machines.boots = False
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "1"})
    until(lambda: system.job(job_id)["attempt"] == 2, what="no second attempt", seconds=90)
    world.machines.boots = True
    system.follow(job_id)
    job = when_settled(world, job_id)
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["lost", "done"]


def test_the_whole_life_of_a_job(world: World) -> None:
    if not has_image(world.emulator):
        waits_for_the_image(world)
    is_done(world)
    survives_an_interruption(world)
    is_cancelled(world)
    survives_a_failed_boot(world)
    states = world.machines.states()
    assert [each for each, state in states.items() if state != "terminated"] == []
    letters = world.system.http.get("/deadletters").json()
    assert letters["total"] == 0, letters
