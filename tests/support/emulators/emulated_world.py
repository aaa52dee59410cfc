"""The system on an emulator, and the steps that a story about a job needs there."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.emulators.machines import EmulatedMachines
from tests.support.emulators.programs import Emulator, start_ministack, start_moto
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

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
    """An emulator with its machines, the system that launches there, and its queue of notices."""

    emulator: Emulator
    machines: EmulatedMachines
    system: EmbeddedSystem
    queue: str


@contextlib.contextmanager
def open_world(name: str, **changes: str) -> Iterator[World]:
    """Run the system on emulator *name* for the length of the block."""
    emulator = STARTS[name]()
    role_arn = make_role(emulator)
    queue = emulator.client("sqs").create_queue(QueueName="notices")["QueueUrl"]
    machines = EmulatedMachines(emulator, ROLE, role_arn)
    system = EmbeddedSystem(**{**settings(emulator, role_arn, queue), **changes})
    try:
        system.start(**emulator.environment())
        yield World(emulator, machines, system, queue)
    finally:
        system.close()
        machines.close()
        emulator.close()


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

    until(runs, what=f"job {job_id} does not run: {system.job(job_id)}", seconds=90)
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
