"""A client of the Docker engine's HTTP API: the adapter's calls, and the meaning of their errors.

It uses the engine's unix socket, or plain tcp:// (a socket proxy), with engines from 20.10 on. The
version is the engine's own, from `/_ping`, since each refuses those that are too old or too new for
it; the calls made here are the same in all of them (1.41 to 1.51).

    https://docs.docker.com/reference/api/engine/

Each call has a connection of its own: on a local socket that costs nothing, and on a kept one that
the engine's restart has cut, a call that was never sent would be `Unknown`.
"""

import asyncio
import base64
import binascii
import io
import tarfile
from collections.abc import Collection, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from shared.compute.docker.frames import frames_text
from shared.compute.docker.values import (
    EngineMachine,
    ExitStatus,
    Inspected,
    ListedContainer,
    ListedNetwork,
)
from shared.compute.port import ComputeError, Rejected, Throttled, Unknown

T = TypeVar("T")

DEFAULT_HOST = "unix:///var/run/docker.sock"
CALLS_AT_ONCE = 16

# Seconds that each call may take. None of them waits for a container to end but `remove`, for which
# the engine allows a killed one ten.
SHORT_SECONDS = 5.0
LIST_SECONDS = 8.0
WORK_SECONDS = 14.0

# The error of a status for a launch. A status that is not listed (5xx above all) is `Unknown`, as
# the engine may have done it all the same, and so is every failure of another call. A name that is
# taken, or a container that does not exist or does not run, is no error but the call's own result.
LAUNCH_ERRORS: dict[int, type[ComputeError]] = {
    400: Rejected,  # a value that it will never take: a mount's source that is not there
    401: Rejected,  # a proxy in front of the engine…
    403: Rejected,  # …does not allow this
    404: Rejected,  # no such image, no such network
    429: Throttled,  # a proxy again; the engine itself never answers this
}


class _Refusal(msgspec.Struct):
    message: str = ""


class _PathStat(msgspec.Struct):
    mtime: datetime


class _Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]


class EngineApi:
    """One engine. Every call raises `Throttled` (never reached) and `Unknown`, some `Rejected`."""

    def __init__(self, host: str = DEFAULT_HOST) -> None:
        """*host* is as in DOCKER_HOST: unix:///path or tcp://name:port. Raises ValueError."""
        url = urlsplit(host)
        if not ((url.scheme == "unix" and url.path) or (url.scheme == "tcp" and url.port)):
            message = f"Docker host {host!r}: it must be unix:///path or tcp://name:port"
            raise ValueError(message)
        self.host = host
        self.socket = url.path if url.scheme == "unix" else None
        self._base = "http://docker" if self.socket else f"http://{url.netloc}"
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._version = ""

    async def info(self) -> EngineMachine:
        """Return the machine that the engine runs on."""
        return _decode((await self._call("GET", "/info")).body, EngineMachine)

    async def containers(self, label: str) -> list[ListedContainer]:
        """List all containers with this `name=value` label, in any state: one snapshot."""
        query = {"all": "true", "filters": msgspec.json.encode({"label": [label]}).decode()}
        answer = await self._call("GET", "/containers/json", query, seconds=LIST_SECONDS)
        return _decode(answer.body, list[ListedContainer])

    async def networks(self, label: str) -> list[ListedNetwork]:
        """List all networks with this `name=value` label."""
        query = {"filters": msgspec.json.encode({"label": [label]}).decode()}
        answer = await self._call("GET", "/networks", query)
        return _decode(answer.body, list[ListedNetwork])

    async def remove_network(self, network_id: str) -> bool:
        """Remove it. True: it does not exist any more; False: a container is still on it."""
        answer = await self._call(
            "DELETE", f"/networks/{network_id}", takes={403, 404, 409}, seconds=WORK_SECONDS
        )
        return answer.status in {204, 404}

    async def create(self, name: str, container: Mapping[str, Any]) -> bool:
        """Create it. False: the name is taken, maybe by a creation that is under way.

        Raises `Rejected` too, like `start`.
        """
        answer = await self._call(
            "POST",
            "/containers/create",
            {"name": name},
            msgspec.json.encode(container),
            takes={409},
            errors=LAUNCH_ERRORS,
            seconds=WORK_SECONDS,
        )
        return answer.status != 409

    async def start(self, name: str) -> None:
        """Start it; one that runs already is no error."""
        await self._call(
            "POST",
            f"/containers/{name}/start",
            takes={304},
            errors=LAUNCH_ERRORS,
            seconds=WORK_SECONDS,
        )

    async def inspect(self, name: str) -> Inspected | None:
        """Return its details; None: there is none of that name."""
        answer = await self._call("GET", f"/containers/{name}/json", takes={404})
        return None if answer.status == 404 else _decode(answer.body, Inspected)

    async def wait(self, name: str) -> int:
        """Wait until it has ended, and return its exit code."""
        answer = await self._call("POST", f"/containers/{name}/wait", seconds=WORK_SECONDS)
        return _decode(answer.body, ExitStatus).status_code

    async def kill(self, name: str, signal: str) -> None:
        """Signal its first process; one that does not run or exist is no error."""
        query = {"signal": signal}
        await self._call("POST", f"/containers/{name}/kill", query, takes={404, 409})

    async def unpause(self, name: str) -> None:
        """Resume it; one that is not paused (409 or 500, by the engine's version) is no error."""
        await self._call("POST", f"/containers/{name}/unpause", takes={404, 409, 500})

    async def remove(self, name: str, *, force: bool) -> bool:
        """Remove it and its volumes, killed before if *force*. True: it does not exist any more."""
        query = {"v": "true", "force": str(force).lower()}
        answer = await self._call(
            "DELETE", f"/containers/{name}", query, takes={404, 409}, seconds=WORK_SECONDS
        )
        return answer.status != 409  # it runs, or another call is removing it now

    async def make_directory(self, name: str, parent: str, path: str, at: datetime) -> None:
        """Make *path* in *parent*, in a container that need not run; an existing one is no error.

        A container that does not exist is no error either. With a read-only root file system
        *parent* must be a volume.
        """
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, at.timestamp()
            archive.addfile(entry)
        query = {"path": parent}
        await self._call("PUT", f"/containers/{name}/archive", query, tar.getvalue(), takes={404})

    async def modified_at(self, name: str, path: str) -> datetime | None:
        """Return the time of the last change of *path* in the container; None: no such path."""
        query = {"path": path}
        answer = await self._call("HEAD", f"/containers/{name}/archive", query, takes={404})
        if answer.status == 404:
            return None
        try:
            stat = base64.b64decode(answer.headers.get("X-Docker-Container-Path-Stat", ""))
        except binascii.Error as error:
            raise Unknown(f"the Docker engine's answer cannot be read: {error}") from error
        return _decode(stat, _PathStat).mtime

    async def last_errors(self, name: str, lines: int = 20) -> bytes:
        """Return the last lines of standard error, in a log stream's frames; empty: none left."""
        query = {"stderr": "true", "tail": str(lines)}
        answer = await self._call("GET", f"/containers/{name}/logs", query, takes={404, 409})
        return answer.body if answer.status == 200 else b""

    async def last_output(self, name: str, lines: int) -> str:
        """Return the last lines of both streams, without the frames; empty: none left."""
        query = {"stdout": "true", "stderr": "true", "tail": str(lines)}
        answer = await self._call("GET", f"/containers/{name}/logs", query, takes={404, 409})
        return frames_text(answer.body) if answer.status == 200 else ""

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        takes: Collection[int] = (),
        errors: Mapping[int, type[ComputeError]] = MappingProxyType({}),
        seconds: float = SHORT_SECONDS,
    ) -> _Answer:
        """One call under the engine's own version; *takes* are the statuses that are no errors."""
        if not self._version:
            answer = await self._exchange("GET", "/_ping", None, None, SHORT_SECONDS)
            if answer.status >= 300:  # a proxy without its engine: nothing was requested yet
                raise Throttled(_error_text("GET", "/_ping", answer))
            self._version = answer.headers.get("Api-Version", "1.41")
        answer = await self._exchange(method, f"/v{self._version}{path}", query, body, seconds)
        if answer.status < 300 or answer.status in takes:
            return answer
        text = _error_text(method, path, answer)
        if answer.status == 400 and "client version" in text:
            self._version = ""  # an older engine than before: it has refused the call
            raise Throttled(text)
        raise errors.get(answer.status, Unknown)(text)

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        seconds: float,
    ) -> _Answer:
        if self._session is None:  # not in __init__: a session belongs to a running loop
            connector = (
                aiohttp.UnixConnector(self.socket, force_close=True, limit=0)
                if self.socket
                else aiohttp.TCPConnector(force_close=True, limit=0)
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar()
            )
        kind = "application/x-tar" if method == "PUT" else "application/json"
        try:
            # The wait for the slot is outside of the time limit: nothing was sent yet.
            async with (
                self._slots,
                self._session.request(
                    method,
                    self._base + path,
                    params=query,
                    data=body,
                    headers={"Content-Type": kind} if body is not None else None,
                    timeout=aiohttp.ClientTimeout(total=seconds),
                ) as answer,
            ):
                return _Answer(answer.status, await answer.read(), dict(answer.headers))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            # No connection, so nothing was sent: a definite refusal. Not `Rejected`, for engines
            # restart; not `Unknown`, which would keep the caller from launching elsewhere.
            self._version = ""  # the next engine that answers may be a newer one
            raise Throttled(f"no Docker engine answers at {self.host}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unknown(f"the Docker engine did not answer {method} {path}: {reason}") from error


def _error_text(method: str, path: str, answer: _Answer) -> str:
    try:
        message = msgspec.json.decode(answer.body, type=_Refusal).message
    except msgspec.DecodeError:
        message = ""
    return f"Docker: {message[:1000] or f'{method} {path} was answered {answer.status}'}"


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Unknown(f"the Docker engine's answer cannot be read: {error}") from error
