"""The start of a service at a Postgres that is not as it should be: it waits and says for what.

A connection pooler is another matter: no waiting helps, and the service ends with one line.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from operations.migrate import migrate_all
from services.api.http.server import check_exposure
from shared.clock import RealClock
from shared.postgres.migrations import MigrationError
from shared.postgres.pool import open_database
from shared.postgres.session import settings_of
from shared.settings import EXIT_SETTING, BadSetting
from tests.conftest import PASSWORDS
from tests.support.servers.breakable_postgres import BreakablePostgres
from tests.support.servers.poolers import PROGRAM, at_address, pgbouncer, refusing_pooler
from tests.support.servers.postgres_states import STATES, Place
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
QUEUE = "scheduler"
SECONDS = 30.0
PARAMETERS = ", ".join(settings_of(QUEUE, 1))

needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@pytest.fixture
async def place(postgres: BreakablePostgres) -> AsyncIterator[Place]:
    place = Place(postgres)
    await place.make()
    yield place
    await place.remove()


class Running:
    """A service as a process, and what it has written."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self._output = directory / "output"
        settings = {
            "DATABASE_URL": dsn,
            "BUS_URL": "memory://",
            "DEPLOYMENT": "test",
            "READY_FILE": str(directory / "ready"),
        }
        inherited = {name: text for name, text in os.environ.items() if "DOCKER_JOB" not in name}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{QUEUE}"],
                cwd=ROOT,
                env=inherited | {f"DOCKER_JOB_{name}": text for name, text in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def output(self) -> str:
        return self._output.read_text()

    def says(self, text: str) -> None:
        """Wait until it has written *text*; it must not end before."""
        until(lambda: text in self.output() or self.process.poll() is not None, SECONDS, text)
        assert text in self.output()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Start the scheduler at an address."""
    started = []

    def run(dsn: str) -> Running:
        started.append(Running(tmp_path, dsn))
        return started[-1]

    yield run
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        each.process.wait()


WAITED_FOR = (
    "refuses logins",
    "has other passwords",
    "has no schema",
    "is renamed",
    "is shut down",
)


@pytest.mark.parametrize("name", WAITED_FOR)
async def test_a_service_waits_for_its_database_and_names_the_trouble(
    place: Place, start: Callable[[str], Running], name: str
) -> None:
    async with place.state(name):
        service = start(place.dsn(QUEUE))
        await asyncio.to_thread(service.says, "waiting for the database")
        await asyncio.to_thread(service.says, STATES[name].trouble)
        if STATES[name].trouble != "does not answer":
            await asyncio.to_thread(service.says, "error")
    await asyncio.to_thread(service.says, "service runs")
    assert await asyncio.to_thread(service.end) == 0


async def test_a_service_that_waits_for_its_database_stops_when_it_is_asked_to(
    place: Place, start: Callable[[str], Running]
) -> None:
    async with place.state("refuses logins"):
        service = start(place.dsn(QUEUE))
        await asyncio.to_thread(service.says, "waiting for the database")
        assert await asyncio.to_thread(service.end) == 0


async def test_a_release_waits_for_its_migration_and_names_it(
    place: Place, start: Callable[[str], Running]
) -> None:
    """The comment is that of a release that had one file only."""
    await place.rows("COMMENT ON SCHEMA scheduler IS 'migrated: shared/0001_messaging.sql'")
    service = start(place.dsn(QUEUE))
    await asyncio.to_thread(service.says, "lacks what the migration creates: ")
    assert "scheduler/0001_" in service.output()
    await migrate_all(place.admin_dsn, PASSWORDS)
    await asyncio.to_thread(service.says, "service runs")
    assert await asyncio.to_thread(service.end) == 0


async def test_whether_there_is_a_key_is_asked_until_the_database_answers(place: Place) -> None:
    db = await open_database(place.dsn("api"), "api", RealClock())
    async with place.state("has no schema"):
        asking = asyncio.create_task(check_exposure("0.0.0.0", db, "program"))
        await asyncio.wait({asking}, timeout=1)
        assert not asking.done()
    with pytest.raises(BadSetting, match="there is no API key"):
        await asking
    await db.close()


# -- poolers


def refused_in_one_line(service: Running) -> str:
    assert service.process.wait(SECONDS) == EXIT_SETTING
    [line] = service.output().splitlines()
    assert line.startswith(f"docker-job {QUEUE}: DOCKER_JOB_DATABASE_URL leads to a connection")
    assert "Postgres itself" in line
    return line


async def test_a_pooler_that_refuses_our_settings_is_answered_in_one_line(
    place: Place, start: Callable[[str], Running]
) -> None:
    async with refusing_pooler() as port:
        service = start(at_address(place.dsn(QUEUE), "127.0.0.1", port))
        line = await asyncio.to_thread(refused_in_one_line, service)
        assert "unsupported startup parameter: search_path" in line
        with pytest.raises(MigrationError, match="connection pooler that refuses"):
            await migrate_all(at_address(place.admin_dsn, "127.0.0.1", port), PASSWORDS)


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_pgbouncer_is_answered_in_one_line(
    place: Place, start: Callable[[str], Running], mode: str
) -> None:
    with pgbouncer(place.server.admin_dsn, pool_mode=mode) as port:
        service = start(at_address(place.dsn(QUEUE), "127.0.0.1", port))
        line = await asyncio.to_thread(refused_in_one_line, service)
        assert "unsupported startup parameter: " in line
        with pytest.raises(MigrationError, match="connection pooler that refuses"):
            await migrate_all(at_address(place.admin_dsn, "127.0.0.1", port), PASSWORDS)


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_pgbouncer_that_drops_our_settings_is_answered_in_one_line(
    place: Place, start: Callable[[str], Running], mode: str
) -> None:
    settings = {"pool_mode": mode, "ignore_startup_parameters": PARAMETERS}
    with pgbouncer(place.server.admin_dsn, **settings) as port:
        service = start(at_address(place.dsn(QUEUE), "127.0.0.1", port))
        line = await asyncio.to_thread(refused_in_one_line, service)
        assert "drops docker-job's settings (search_path is " in line
        with pytest.raises(MigrationError, match="connection pooler that drops"):
            await migrate_all(at_address(place.admin_dsn, "127.0.0.1", port), PASSWORDS)
