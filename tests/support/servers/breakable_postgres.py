"""A Postgres that a test may kill, freeze and start again, and a wire to it that can fail.

Its binaries and its socket are those of the embedded server; so are the roles and schemas of
production.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import pytest

from embedded.postgres import EmbeddedPostgres
from embedded.postgres_host import SOCKET_NAME, processes_in
from operations.migrate import migrate_all, service_dsn
from tests.conftest import PASSWORDS

COMMIT = b"COMMIT;\0"
GONE_SECONDS = 30


class BreakablePostgres:
    """One migrated server. `dsn` is a service's address, good again after every restart."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="docker-job-faults-"))
        self._directory.chmod(0o711)  # root's server runs as another user, who must pass through
        self._data = self._directory / "postgres"
        self._server = EmbeddedPostgres(self._data)  # what it has committed outlives a kill
        self.admin_dsn = self._server.start()
        asyncio.run(migrate_all(self.admin_dsn, PASSWORDS))

    def dsn(self, name: str) -> str:
        """Return the address as the role of service *name*."""
        return service_dsn(self.admin_dsn, name, PASSWORDS[name])

    def _pids(self) -> list[int]:
        return list(processes_in(self._data / "pgdata"))

    def kill(self) -> None:
        """Send `kill -9` to the server and each of its backends: a power cut, but for the disk."""
        pids = self._pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        psutil.wait_procs(found, timeout=GONE_SECONDS)

    def stop(self) -> None:
        """Shut it down in order: its sessions are ended."""
        self._server.stop()

    def start(self) -> None:
        """Start it again; it recovers first."""
        self._server.start()

    def freeze(self) -> None:
        """Let it hang: its sockets stay open, take connections, and answer nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Leave nothing behind."""
        self.thaw()
        self._server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def wire(self) -> AsyncIterator["Wire"]:
        """Open a way to the server that can lose the answer to a COMMIT."""
        directory = Path(tempfile.mkdtemp(prefix="docker-job-wire-"))
        real = Path(parse_qs(urlsplit(self.admin_dsn).query)["host"][0]) / SOCKET_NAME
        wire = Wire(real, directory)
        server = await asyncio.start_unix_server(wire.carry, directory / SOCKET_NAME)
        try:
            yield wire
        finally:
            server.close()
            wire.cut_all()
            await server.wait_closed()
            shutil.rmtree(directory, ignore_errors=True)


class Wire:
    """Carries connections to the server, and loses the chosen answers."""

    def __init__(self, real: Path, directory: Path) -> None:
        self._real = real
        self._directory = directory
        self._lose: Literal["silent", "cut"] | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self.lost = asyncio.Event()
        """Set when a COMMIT has taken effect and its answer was lost."""

    def through(self, dsn: str) -> str:
        """Return *dsn* by this way."""
        old = parse_qs(urlsplit(dsn).query)["host"][0]
        new = quote(str(self._directory), safe="/")
        assert old in dsn
        return dsn.replace(f"host={old}", f"host={new}")

    def lose_next_commit(self, how: Literal["silent", "cut"]) -> None:
        """Lose the answer to the next COMMIT: the client gets none, or its connection ends."""
        self._lose = how
        self.lost.clear()

    def silence_all(self) -> None:
        """Carry nothing more to the clients that are connected now: half-open connections."""
        self._silent |= self._writers

    def cut_all(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's connection, until either side ends it."""
        up_reader, up_writer = await asyncio.open_unix_connection(str(self._real))
        self._writers |= {writer, up_writer}
        how: Literal["silent", "cut"] | None = None

        async def upwards() -> None:
            nonlocal how
            while data := await reader.read(65_536):
                if self._lose is not None and COMMIT in data:
                    how, self._lose = self._lose, None
                up_writer.write(data)

        async def downwards() -> None:
            while data := await up_reader.read(65_536):
                if writer in self._silent:
                    continue
                if how is None:
                    writer.write(data)
                    continue
                self.lost.set()  # an answer to COMMIT is here: it has taken effect
                if how == "cut":
                    return

        ways = [asyncio.ensure_future(upwards()), asyncio.ensure_future(downwards())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            up_writer.close()
            self._writers -= {writer, up_writer}


@pytest.fixture(scope="module")
def postgres() -> Iterator[BreakablePostgres]:
    """Start a server for one module's tests; each leaves it running, and its rows behind."""
    server = BreakablePostgres()
    yield server
    server.remove()
