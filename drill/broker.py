"""The broker seen with `rabbitmqctl`: whether its queues are settled, and who reads which event."""

import json
import time
from datetime import UTC, datetime

from drill.deployment import Deployment
from drill.docker import CommandFailed, docker

EXCHANGE = "docker-job"
SETTLED_SECONDS = 20.0
"""A queue that is deleted right after the broker's start can end the process that forwards dead
letters for all queues (rabbitmq-server issue 16652): so none is deleted sooner."""
LEADER_SECONDS = 60.0
STEP_SECONDS = 1.0


def delete_queue(deployment: Deployment, queue: str) -> None:
    """Delete a queue with what is in it. Raises `CommandFailed`."""
    _rabbitmqctl(deployment, "delete_queue", queue)


def await_settled(deployment: Deployment) -> None:
    """Wait until the broker has run for a while and each quorum queue has a leader.

    Raises `CommandFailed`.
    """
    template = "{{.State.StartedAt}}"
    started = docker("inspect", "--format", template, deployment.container("rabbitmq")).strip()
    # The engine writes nanoseconds, of which `fromisoformat` reads six digits.
    began = datetime.fromisoformat(started[:19]).replace(tzinfo=UTC)
    age = (datetime.now(UTC) - began).total_seconds()
    time.sleep(max(0.0, SETTLED_SECONDS - age))
    deadline = time.monotonic() + LEADER_SECONDS
    while without := _leaderless(deployment):
        if time.monotonic() > deadline:
            raise CommandFailed(f"queues without a leader: {', '.join(without)}")
        time.sleep(STEP_SECONDS)


def readers(deployment: Deployment) -> dict[str, list[str]]:
    """Return the names of the events that each service's queue is bound to.

    Raises `CommandFailed`.
    """
    columns = ("source_name", "destination_name", "routing_key")
    found: dict[str, list[str]] = {}
    for each in json.loads(_rabbitmqctl(deployment, "list_bindings", *columns)):
        if each["source_name"] == EXCHANGE:
            found.setdefault(each["destination_name"], []).append(each["routing_key"])
    return found


def _leaderless(deployment: Deployment) -> list[str]:
    listed = json.loads(_rabbitmqctl(deployment, "list_queues", "name", "type", "leader", "state"))
    return [
        each["name"]
        for each in listed
        if each["type"] == "quorum" and (not each["leader"] or each["state"] != "running")
    ]


def _rabbitmqctl(deployment: Deployment, command: str, *arguments: str) -> str:
    formatter = () if command == "delete_queue" else ("--formatter", "json")
    return deployment.execute("rabbitmq", "rabbitmqctl", "--quiet", command, *arguments, *formatter)
