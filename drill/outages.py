"""The outages: how each begins, how long it lasts, and how an operator repairs it."""

from collections.abc import Callable
from dataclasses import dataclass

from drill import broker, database
from drill.deployment import SERVICES, Deployment
from drill.docker import docker

Act = Callable[[Deployment], object]


@dataclass(frozen=True)
class Outage:
    """One outage; lengths in seconds, without the repairing command's own time."""

    name: str
    title: str
    seconds: float
    short_seconds: float
    begin: Act
    end: Act
    repair_seconds: float = 3.0
    """How long the repairing command usually takes."""
    prepare: Act = lambda _deployment: None
    """What must be true before it may begin."""

    def length(self, *, short: bool) -> float:
        """Return its length in that form."""
        return self.short_seconds if short else self.seconds


def _kill_api(deployment: Deployment) -> None:
    docker("kill", deployment.container("api"))


def _start_api(deployment: Deployment) -> None:
    docker("start", deployment.container("api"))


def _freeze(deployment: Deployment) -> None:
    docker("pause", deployment.container("postgres"))


def _thaw(deployment: Deployment) -> None:
    docker("unpause", deployment.container("postgres"))


def _destroy_broker(deployment: Deployment) -> None:
    """Kill the broker, and remove its container and its volume."""
    docker("kill", deployment.container("rabbitmq"))
    docker("rm", "--force", "--volumes", deployment.container("rabbitmq"))
    docker("volume", "rm", f"{deployment.name}_rabbitmq-data")


def _repair(deployment: Deployment) -> None:
    deployment.repair()


def _restart(deployment: Deployment) -> None:
    deployment.compose("restart", *SERVICES)


def _nothing(_deployment: Deployment) -> None:
    """Do nothing: the repairing command is the outage."""


def _queue_deleted(queue: str) -> Outage:
    return Outage(
        name=f"queue-{queue}",
        title=f"queue {queue} deleted",
        seconds=30,
        short_seconds=8,
        prepare=broker.await_settled,
        begin=lambda deployment: broker.delete_queue(deployment, queue),
        end=_repair,
        repair_seconds=15,
    )


OUTAGES = (
    Outage("api-away", "API away", 300, 30, _kill_api, _start_api),
    Outage("postgres-frozen", "Postgres frozen", 120, 25, _freeze, _thaw),
    Outage(
        *("postgres-read-only", "Postgres read-only", 120, 25),
        *(database.make_read_only, database.make_writable),
    ),
    Outage(
        *("postgres-logins", "Postgres refuses logins", 60, 20),
        *(database.refuse_logins, database.accept_logins),
    ),
    Outage(
        *("broker-lost", "broker killed, volume lost", 60, 10),
        *(_destroy_broker, _repair, 25),
    ),
    *(_queue_deleted(service) for service in SERVICES),
    Outage("restart", "all services restarted", 15, 10, _nothing, _restart, 15),
)
NAMES = tuple(outage.name for outage in OUTAGES)
