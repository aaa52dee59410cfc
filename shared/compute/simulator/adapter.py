"""`sim://`: the compute port over a virtual cloud, in this process or served by another one.

`sim://?seed=7&…` makes a cloud in this process: when the process dies, the cloud and its instances
end with it, a restarted simulator does not know them, and the reaper treats them as vanished.
`sim://host:port` is a cloud that `serve.py` runs for several processes. Capacity and faults are in
`faults.py`; the agents (`agent.py`) use the real protocol, so only the cloud itself is simulated.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from shared.clock import Clock
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    LaunchBatch,
    LaunchRequest,
    NoCapacity,
    NotFound,
    Offer,
    Plan,
    PricedOffers,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)
from shared.compute.simulator.cloud import VirtualCloud
from shared.compute.simulator.faults import faults_of
from shared.compute.simulator.prices import highest_price
from shared.events.requirements import Resources

T = TypeVar("T")

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0

ERRORS: dict[str, type[ComputeError]] = {
    error.__name__: error
    for error in (NoCapacity, QuotaReached, Throttled, Deferred, Stale, Rejected, Unknown)
}


class SimulatorCompute:
    """One deployment's view of a virtual cloud; several views of one cloud are several replicas."""

    name = "simulator"
    gathers = False

    def __init__(self, cloud: VirtualCloud, deployment: str, *, owns_cloud: bool = True) -> None:
        self.cloud = cloud
        self._deployment = deployment
        self._owns_cloud = owns_cloud

    @classmethod
    def from_url(cls, url: str, deployment: str, clock: Clock) -> "SimulatorCompute":
        """Make a cloud by a `sim://?…` URL, and a view of it. Raises ValueError."""
        return cls(VirtualCloud(clock, faults_of(url)), deployment)

    async def plan(self, offer: Offer) -> Plan:  # noqa: ARG002 - the port's
        """Return an empty plan: the request has all that a launch needs."""
        return {}

    def vcpus_of(self, plan: Plan, resources: Resources) -> Mapping[str, int]:  # noqa: ARG002 - the port's
        """Return those of all types: a launch gets the first that has capacity."""
        return {each.name: each.vcpus for each in self.cloud.offers().types}

    async def highest_price_of(self, plan: Plan, resources: Resources) -> float | None:  # noqa: ARG002 - the port's
        """Return that of the dearest pool."""
        return highest_price(self.cloud.offers())

    async def price_offers(self) -> PricedOffers:
        """Offer the pools at their prices, for any job."""
        return self.cloud.offers()

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Launch or adopt; a terminated instance is returned as such and never started again."""
        return [self._launch(each) for each in batch.requests]

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Cancel the virtual agents and end their instances, unless a fault says otherwise."""
        self.cloud.terminate(instance_ids)

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return the visible ones, and for an hour the last 10,000 terminated ones."""
        return {each.instance_id: each for each in self.cloud.describe(instance_ids)}

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        """Return the visible ones; what the cloud does not have ended with an earlier one."""
        shown = await self.describe(instance_ids)
        return {
            each: shown.get(each) or NotFound(final=not self.cloud.has(each))
            for each in instance_ids
        }

    async def list_instances(self) -> Sequence[Instance]:
        """List the visible instances of this deployment."""
        return self.cloud.list_instances(self._deployment)

    async def close(self) -> None:
        """End the cloud, if this view owns it: virtual instances cannot outlive their process."""
        if self._owns_cloud:
            await self.cloud.close()

    def _launch(self, request: LaunchRequest) -> Instance | ComputeError:
        if request.deployment != self._deployment:
            message = f"deployment {request.deployment!r} is not {self._deployment!r}"
            return Rejected(message)
        return self.cloud.launch(request)


# --- a served cloud: JSON bodies, one path a method ----------------------------------------------


class LaunchBody(Struct, frozen=True):
    """The body of `POST /launch`."""

    deployment: str
    batch: LaunchBatch


class IdsBody(Struct, frozen=True):
    """The body of `POST /terminate`, `/describe` and `/confirm`."""

    instance_ids: list[str]


class ListBody(Struct, frozen=True):
    """The body of `POST /list` and `POST /offers`."""

    deployment: str


class Refusal(Struct, frozen=True):
    """An error of the port, by its name."""

    error: str
    message: str

    def as_error(self) -> ComputeError:
        """Return the error itself."""
        return ERRORS.get(self.error, Unknown)(self.message)

    @staticmethod
    def of(error: ComputeError) -> "Refusal":
        """Return the refusal that stands for *error*."""
        return Refusal(type(error).__name__, str(error))


class CloudAnswer(Struct, frozen=True):
    """The outcome of one launch: exactly one of the two is set."""

    instance: Instance | None = None
    refusal: Refusal | None = None


class CloudAnswerById(Struct, frozen=True):
    """The answer about one instance; without `instance` it was not found."""

    instance_id: str
    instance: Instance | None = None
    not_found_is_final: bool = False

    @staticmethod
    def of(instance_id: str, answer: Instance | NotFound) -> "CloudAnswerById":
        """Return the answer that stands for *answer*."""
        if isinstance(answer, NotFound):
            return CloudAnswerById(instance_id, not_found_is_final=answer.final)
        return CloudAnswerById(instance_id, answer)


class RemoteCloud:
    """One deployment's view of a served cloud."""

    name = "simulator"
    gathers = False

    def __init__(self, url: str, deployment: str) -> None:
        """*url* is `sim://host:port`. Raises ValueError."""
        parts = urlsplit(url)
        if parts.port is None or parts.query:
            message = f"{url!r}: a served cloud is sim://host:port, its faults are set where it is"
            raise ValueError(message)
        self._base = f"http://{parts.netloc}"
        self._deployment = deployment
        self._session: aiohttp.ClientSession | None = None

    async def plan(self, offer: Offer) -> Plan:  # noqa: ARG002 - the port's
        """Return an empty plan: the request has all that a launch needs."""
        return {}

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Launch or adopt; a terminated instance is returned as such and never started again."""
        body = LaunchBody(self._deployment, batch)
        answers = await self._call("/launch", body, list[CloudAnswer])
        if len(answers) != len(batch.requests):
            raise Unknown(f"{len(batch.requests)} launches were given {len(answers)} answers")
        return [_outcome(each) for each in answers]

    def vcpus_of(self, plan: Plan, resources: Resources) -> Mapping[str, int]:  # noqa: ARG002 - the port's
        """Return none: only the cloud that is served knows its types."""
        return {}

    async def highest_price_of(self, plan: Plan, resources: Resources) -> float | None:  # noqa: ARG002 - the port's
        """Return that of the dearest pool."""
        return highest_price(await self.price_offers())

    async def price_offers(self) -> PricedOffers:
        """Offer the pools at their prices."""
        return await self._call("/offers", ListBody(self._deployment), PricedOffers)

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """End the agents and their instances."""
        await self._call("/terminate", IdsBody(list(instance_ids)), list[str])

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return the visible ones, terminated ones too for a while."""
        found = await self._call("/describe", IdsBody(list(instance_ids)), list[Instance])
        return {each.instance_id: each for each in found}

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        """Return the visible ones, and whether it is certain that another does not exist."""
        body = IdsBody(list(instance_ids))
        answered = await self._call("/confirm", body, list[CloudAnswerById])
        return {
            each.instance_id: each.instance or NotFound(final=each.not_found_is_final)
            for each in answered
        }

    async def list_instances(self) -> Sequence[Instance]:
        """List the visible instances of this deployment."""
        return await self._call("/list", ListBody(self._deployment), list[Instance])

    async def close(self) -> None:
        """Close the connections. The cloud goes on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(self, path: str, body: object, kind: type[T]) -> T:
        if self._session is None:  # not in __init__: a session belongs to a running loop
            self._session = aiohttp.ClientSession(
                # On a kept connection that the cloud's restart has cut, a call that was never sent
                # would be `Unknown`.
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        data = msgspec.json.encode(body)
        try:
            async with self._session.post(self._base + path, data=data) as answer:
                status, raw = answer.status, await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Throttled(f"no cloud answers at {self._base}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unknown(f"the cloud did not answer {path}: {reason}") from error
        return _read(status, raw, kind)


def _read(status: int, raw: bytes, kind: type[T]) -> T:
    try:
        if status != 200:
            raise msgspec.json.decode(raw, type=Refusal).as_error()
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise Unknown(f"the cloud's answer ({status}) cannot be read: {error}") from error


def _outcome(answer: CloudAnswer) -> Instance | ComputeError:
    if answer.instance is not None:
        return answer.instance
    return answer.refusal.as_error() if answer.refusal else Unknown("the cloud's answer is empty")
