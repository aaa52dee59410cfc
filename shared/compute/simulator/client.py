"""`sim://host:port`: the compute port over a virtual cloud that another process serves.

The process that serves it sets what it holds and which faults it has: `serve.py`.
"""

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from shared.compute.port import (
    ComputeError,
    Instance,
    LaunchBatch,
    Offer,
    Plan,
    Throttled,
    Unknown,
)
from shared.compute.simulator import wire

T = TypeVar("T")

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0


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
        """Nothing to settle: a request says it all."""
        return {}

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Launch or adopt; a terminated instance is answered as such and never started again."""
        body = wire.Launches(self._deployment, batch)
        answers = await self._call("/launch", body, list[wire.CloudAnswer])
        if len(answers) != len(batch.requests):
            raise Unknown(f"{len(batch.requests)} launches were given {len(answers)} answers")
        return [_outcome(each) for each in answers]

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """End their agents and them."""
        await self._call("/terminate", wire.Ids(list(instance_ids)), list[str])

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """The visible ones, the terminated too for a while."""
        found = await self._call("/describe", wire.Ids(list(instance_ids)), list[Instance])
        return {each.instance_id: each for each in found}

    async def list_instances(self) -> Sequence[Instance]:
        """The visible ones of this deployment."""
        return await self._call("/list", wire.ListRequest(self._deployment), list[Instance])

    async def close(self) -> None:
        """Let go of connections. The cloud goes on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(self, path: str, body: object, kind: type[T]) -> T:
        if self._session is None:  # not in __init__: a session belongs to a running loop
            self._session = aiohttp.ClientSession(
                # A kept connection that the cloud's restart has cut would make an "unknown" of what
                # was never sent.
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._session.post(self._base + path, data=wire.encode(body)) as answer:
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
            raise msgspec.json.decode(raw, type=wire.Refusal).as_error()
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise Unknown(f"the cloud's answer ({status}) makes no sense: {error}") from error


def _outcome(answer: wire.CloudAnswer) -> Instance | ComputeError:
    if answer.instance is not None:
        return answer.instance
    return answer.refusal.as_error() if answer.refusal else Unknown("the cloud said nothing")
