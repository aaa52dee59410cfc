"""The reads of EC2 in a first run: the instances of a tag, and why an instance has ended."""

from typing import Any

from botocore.exceptions import ClientError

from deploy.first_world import Differs, World
from deploy.refusal import code_of

LAUNCH_TAG = "docker-job:launch"
"""Equal on all instances of one CreateFleet."""

ALIVE = ("pending", "running", "shutting-down", "stopping")
TERMINATED = "terminated"


def instances_of(world: World, tag: str) -> list[dict[str, Any]]:
    """Return the stack's instances with *tag* that are not terminated."""
    pages = world.account.client("ec2").get_paginator("describe_instances")
    chosen = [
        {"Name": f"tag:{tag}", "Values": [world.stack]},
        {"Name": "instance-state-name", "Values": list(ALIVE)},
    ]
    return [
        instance
        for page in pages.paginate(Filters=chosen)
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def ids_of(world: World, tag: str) -> list[str]:
    """Return the ids of the stack's instances with *tag* that are not terminated."""
    return [str(each["InstanceId"]) for each in instances_of(world, tag)]


def launch_of(instance: dict[str, Any]) -> str:
    """Return by which CreateFleet an instance came, empty if it has no tag of it."""
    tags = {each["Key"]: each["Value"] for each in instance.get("Tags") or []}
    return str(tags.get(LAUNCH_TAG, ""))


def until_ended(world: World, instance: str, seconds: float = 600) -> str:
    """Wait until EC2 shows an instance as terminated; return its reason. Raises `Differs`."""

    def ended() -> str | None:
        try:
            pages = world.account.client("ec2").describe_instances(InstanceIds=[instance])
        except ClientError as error:
            if code_of(error) == "InvalidInstanceID.NotFound":
                return "EC2 shows it no more"
            raise
        [shown] = [each for group in pages["Reservations"] for each in group["Instances"]]
        if shown["State"]["Name"] != TERMINATED:
            return None
        reason = shown.get("StateReason") or {}
        return f"{reason.get('Code', 'no code')}: {reason.get('Message', 'no message')}"

    why: str = world.until(f"instance {instance} is terminated", seconds, ended)
    return why


def one_of(world: World, tag: str) -> str:
    """Return the id of the only instance with *tag*. Raises `Differs` unless there is one."""
    ids = ids_of(world, tag)
    if len(ids) != 1:
        raise Differs(f"{len(ids)} instances have the tag {tag}={world.stack}, not one")
    return ids[0]
