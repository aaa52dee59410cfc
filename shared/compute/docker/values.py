"""The values in the Docker engine's answers, as far as the adapter reads them."""

from datetime import datetime

import msgspec


class ListedContainer(msgspec.Struct, frozen=True, rename="pascal"):
    """A container in a list; `created` is in seconds since the epoch."""

    id: str
    state: str
    created: int
    labels: dict[str, str] | None = None

    def label(self, name: str) -> str:
        """Return the label's value; empty if it has none."""
        return (self.labels or {}).get(name, "")


class ContainerState(msgspec.Struct, frozen=True, rename="pascal"):
    """The state of a container. `finished_at` is in the year 1 for one that has never run."""

    status: str
    exit_code: int
    finished_at: datetime
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)


class EngineMachine(msgspec.Struct, frozen=True):
    """The machine of an engine."""

    vcpus: int = msgspec.field(name="NCPU")
    memory_bytes: int = msgspec.field(name="MemTotal")
    architecture: str = msgspec.field(name="Architecture", default="")


class ListedNetwork(msgspec.Struct, frozen=True, rename="pascal"):
    """A network in a list."""

    id: str
    labels: dict[str, str] | None = None

    def label(self, name: str) -> str:
        """Return the label's value; empty if it has none."""
        return (self.labels or {}).get(name, "")


class Config(msgspec.Struct, frozen=True, rename="pascal"):
    """The configuration of a container."""

    labels: dict[str, str] | None = None


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """One container, in detail."""

    state: ContainerState
    config: Config

    def label(self, name: str) -> str:
        """Return the label's value; empty if it has none."""
        return (self.config.labels or {}).get(name, "")


class ExitStatus(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer of a wait for a container's end."""

    status_code: int
