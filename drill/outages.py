"""The outages: how each begins, how long it lasts, and how an operator repairs it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
    away: tuple[str, ...] = ()
    """Services that are killed shortly before it and started again once it has begun: when it
    begins, events wait for them on the broker."""
    prepare: Act = lambda _deployment: None
    """What must be true before it may begin."""

    def length(self, *, short: bool) -> float:
        """Return its length in that form."""
        return self.short_seconds if short else self.seconds


def _freeze(deployment: Deployment) -> None:
    docker("pause", deployment.container("postgres"))


def _thaw(deployment: Deployment) -> None:
    docker("unpause", deployment.container("postgres"))


def _destroy_broker(deployment: Deployment) -> None:
    """Kill the broker, and remove its container and its volume."""
    deployment.kill("rabbitmq")
    docker("rm", "--force", "--volumes", deployment.container("rabbitmq"))
    docker("volume", "rm", f"{deployment.name}_rabbitmq-data")


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
        away=(queue,),
        prepare=broker.await_settled,
        begin=lambda deployment: broker.delete_queue(deployment, queue),
        end=Deployment.repair,
        repair_seconds=8,
    )


OUTAGES = (
    Outage(
        name="api-away",
        title="API away",
        seconds=300,
        short_seconds=30,
        begin=partial(Deployment.kill, service="api"),
        end=partial(Deployment.start, service="api"),
    ),
    Outage(
        name="postgres-frozen",
        title="Postgres frozen",
        seconds=120,
        short_seconds=25,
        begin=_freeze,
        end=_thaw,
    ),
    Outage(
        name="postgres-read-only",
        title="Postgres read-only",
        seconds=120,
        short_seconds=25,
        begin=database.make_read_only,
        end=database.make_writable,
    ),
    Outage(
        name="postgres-logins",
        title="Postgres refuses logins",
        seconds=60,
        short_seconds=20,
        begin=database.refuse_logins,
        end=database.accept_logins,
    ),
    Outage(
        name="broker-lost",
        title="broker killed, volume lost",
        seconds=60,
        short_seconds=10,
        begin=_destroy_broker,
        end=Deployment.repair,
        repair_seconds=20,
        away=("scheduler", "launcher", "reaper"),
    ),
    *(_queue_deleted(service) for service in SERVICES),
    Outage(
        name="restart",
        title="all services restarted",
        seconds=15,
        short_seconds=10,
        begin=_nothing,
        end=_restart,
        repair_seconds=10,
    ),
)
NAMES = tuple(outage.name for outage in OUTAGES)
