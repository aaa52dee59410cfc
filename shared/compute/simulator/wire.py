"""What is said between a served virtual cloud and its callers: JSON bodies, one path a method."""

import msgspec
from msgspec import Struct

from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    LaunchBatch,
    NoCapacity,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)

ERRORS: dict[str, type[ComputeError]] = {
    error.__name__: error
    for error in (NoCapacity, QuotaReached, Throttled, Deferred, Stale, Rejected, Unknown)
}


class Launches(Struct, frozen=True):
    """The body of `POST /launch`."""

    deployment: str
    batch: LaunchBatch


class Ids(Struct, frozen=True):
    """The body of `POST /terminate` and `POST /describe`."""

    instance_ids: list[str]


class ListRequest(Struct, frozen=True):
    """The body of `POST /list`."""

    deployment: str


class Refusal(Struct, frozen=True):
    """An error of the port, by its name."""

    error: str
    message: str

    def as_error(self) -> ComputeError:
        """The error itself."""
        return ERRORS.get(self.error, Unknown)(self.message)

    @staticmethod
    def of(error: ComputeError) -> "Refusal":
        """What stands for *error*."""
        return Refusal(type(error).__name__, str(error))


class CloudAnswer(Struct, frozen=True):
    """What became of one launch: exactly one of the two is set."""

    instance: Instance | None = None
    refusal: Refusal | None = None


class Truth(Struct, frozen=True):
    """What really happened, of `GET /truth`: counts over all that the cloud has seen."""

    launched: int
    """Instances in all."""
    living: int
    doubled: int
    """Launch tokens that gave more than one instance."""
    overlapping: int
    """Containers that started while another one of their job ran."""


def encode(value: object) -> bytes:
    """*value* as JSON."""
    return msgspec.json.encode(value)
