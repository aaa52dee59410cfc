"""The API for virtual agents: a small port, and its adapter over HTTP.

All agents of a virtual cloud share one session and a bounded number of kept connections: two
thousand instances must not open two thousand sockets.
"""

from typing import Protocol

import aiohttp
import msgspec

CONNECTIONS = 32
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0


class AgentApi(Protocol):
    """The API as agents see it (docs/agent-protocol.md)."""

    async def call(self, method: str, url: str, token: str, body: object) -> tuple[int, bytes]:
        """Send *body* as JSON; return the answer's status and body. Raises OSError without one."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class HttpAgentApi:
    """The API over HTTP, with connections kept alive."""

    def __init__(self, connections: int = CONNECTIONS) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, url: str, token: str, body: object) -> tuple[int, bytes]:
        """Send one request. The wait for a free connection has no time limit, all after it has."""
        if self._session is None:  # not in __init__: a session belongs to a running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = msgspec.json.encode(body)
        try:
            async with self._session.request(method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            message = f"{method} {url}: {type(error).__name__}"
            raise ConnectionError(message) from error

    async def close(self) -> None:
        """Close the session, if one was opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class AgentJob(msgspec.Struct, frozen=True):
    """The job as the claim's answer gives it."""

    id: int
    docker_image: str
    command: list[str] | None = None
    env_vars: dict[str, str] = {}
    timeout_seconds: float | None = None


class SimulatedAgentSettings(msgspec.Struct, frozen=True):
    """The settings as the claim's answer gives them, in seconds and lines."""

    heartbeat_seconds: float = 5
    interruption_margin_seconds: float = 30
    error_tail_lines: int = 20


class Claimed(msgspec.Struct, frozen=True):
    """The claim's answer."""

    job: AgentJob
    attempt: int
    settings: SimulatedAgentSettings = SimulatedAgentSettings()


class MustWait(msgspec.Struct, frozen=True):
    """The claim's answer while the container of the attempt before may still run."""

    retry_seconds: float = 1


class Over(msgspec.Struct, frozen=True):
    """The answer for an attempt that is over, with its cause if the token is still accepted."""

    cause: str | None = None
