"""`python -m operations.deadletters` on a real Postgres, and on a real RabbitMQ."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from operations.deadletters import command_line
from operations.deadletters.__main__ import run
from operations.migrate import service_dsn
from shared.bus.port import Message
from shared.bus.rabbitmq.topology import DELIVERY_LIMIT
from shared.clock import RealClock
from shared.crash_points import EXIT_STATUS
from shared.events import cloudevents
from shared.events.events import JobCancelled, JobScheduled
from shared.events.requirements import Requirements
from shared.messaging import parked
from shared.messaging.inbox import TRIES
from shared.messaging.parked import REPORT, RETRY, FailedEvent
from shared.postgres.pool import Database, connect, open_database
from shared.settings import BadSetting, Settings
from tests.conftest import PASSWORDS, at_database
from tests.support.bus import broker_room
from tests.support.bus.broker_room import Room, migrated_room
from tests.support.bus.dead_messages import in_queue, kill_readers
from tests.support.rows.messages import as_message, wrapped
from tests.support.run.ports import free_port
from tests.support.servers.rabbitmq_kinds import RabbitServer

ROOT = Path(__file__).resolve().parent.parent.parent
AT = datetime(2026, 1, 1, tzinfo=UTC)
ESCAPE = b'\x1b[2J\x00 \xff not json: amqp://u:s3cret@h {"api_key": "s3cret"} \xe2\x80\xae'


@dataclass
class Tool:
    """The command, its settings, and its output."""

    environ: dict[str, str]
    printed: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    async def __call__(self, *arguments: str) -> int:
        self.printed.clear()
        self.warned.clear()
        parsed = command_line.parse(list(arguments))
        return await run(Settings(self.environ), parsed, self.printed.append, self.warned.append)

    @property
    def text(self) -> str:
        return "\n".join(self.printed)


@pytest.fixture
def tool(database_url: str, tmp_path: Path) -> Tool:
    """Make the command as in a container: each service's secrets in its own directory."""
    for name, password in PASSWORDS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "database_password").write_text(password)
        (tmp_path / name / "bus_password").write_text(broker_room.PASSWORDS[name])
    return Tool({"DOCKER_JOB_DATABASE_URL": database_url, "DOCKER_JOB_SECRETS_DIR": str(tmp_path)})


@pytest.fixture
async def dbs(database_url: str) -> AsyncIterator[dict[str, Database]]:
    """Each service's database, in real time."""
    opened = {
        name: await open_database(
            service_dsn(database_url, name, password), name, RealClock(), connections=1
        )
        for name, password in PASSWORDS.items()
    }
    yield opened
    for db in opened.values():
        await db.close()


def cancelled(job_id: int) -> Message:
    return as_message(wrapped(JobCancelled(job_id=job_id, attempt=1), at=AT))


async def park(db: Database, message: Message, error: str, *, dead: bool = True) -> None:
    """Park *message* as its handler leaves it after *error*."""
    async with db.transaction() as tx:
        event_id = uuid.UUID(message.id)
        what = FailedEvent(event_id, message.name, message.body, error)
        await parked.park(tx, [what], tx.now + timedelta(hours=1))
        if dead:
            for _ in range(TRIES - 1):
                await parked.postpone_parked(tx, event_id, error, tx.now, dead=True)


async def bury(db: Database, raw: bytes) -> str:
    """Bury *raw*, which no version can read; return its id."""
    error = "Undecodable: no event is named 'JobEaten'"
    dead = FailedEvent(uuid.uuid4(), "JobEaten\x1b[31m", raw, error)
    async with db.transaction() as tx:
        await parked.bury(tx, [dead])
    return str(dead.event_id)


async def states(db: Database) -> dict[str, tuple[str, int]]:
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT event_id, state, tries FROM parked")
    return {str(row["event_id"]): (row["state"], row["tries"]) for row in rows}


async def test_where_nothing_is_dead_it_says_so(tool: Tool) -> None:
    assert await tool("list") == 0
    assert tool.printed == ["no dead letters"]
    assert await tool("redrive", "--all") == 0
    assert await tool("drop", "--all", "--service", "api") == 0
    assert tool.printed == ["no dead letters match"]


async def test_list_shows_all_four_services_and_the_filters_narrow_it(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    messages = {name: cancelled(number) for number, name in enumerate(dbs)}
    for name, db in dbs.items():
        await park(db, messages[name], "ValueError: no", dead=name != "api")
    assert await tool("list") == 0
    assert len(tool.printed) == 1 + len(dbs)
    for name, message in messages.items():
        [line] = [each for each in tool.printed if message.id in each]
        assert line.startswith(name)
        assert "JobCancelled" in line
        assert "ValueError: no" in line
        assert ("waiting" if name == "api" else "dead") in line
    assert await tool("list", "--service", "reaper") == 0
    assert messages["reaper"].id in tool.text
    assert len(tool.printed) == 2
    assert await tool("list", "--state", "waiting") == 0
    assert messages["api"].id in tool.text
    assert len(tool.printed) == 2
    assert await tool("list", "--event", "JobScheduled") == 0
    assert tool.printed == ["no dead letters"]


async def test_a_long_list_says_how_many_it_does_not_show(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    for number in range(5):
        await park(dbs["reaper"], cancelled(number), "ValueError: no")
    assert await tool("list", "--limit", "2") == 0
    assert len(tool.printed) == 4
    assert tool.printed[-1] == "and 3 more: see --limit and the filters"


async def test_show_prints_the_whole_event_without_what_is_secret(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    requirements = Requirements(max_lifetime_seconds=60, labels={"token": "s3cret", "team": "\x1b"})
    event = JobScheduled(job_id=7, attempt=1, due_at=AT, requirements=requirements)
    message = as_message(wrapped(event, at=AT))
    await park(dbs["scheduler"], message, "OSError: postgresql://scheduler:s3cret@db/x\n\x1b[31m")
    assert await tool("show", message.id) == 0
    assert "s3cret" not in tool.text
    assert '"due_at": "2026-01-01T00:00:00Z"' in tool.text
    assert '"team"' in tool.text
    assert f"its handler failed {TRIES} times" in tool.text
    assert all(each.isprintable() for line in tool.printed for each in line)


async def test_show_prints_raw_bytes_that_no_terminal_obeys(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    event_id = await bury(dbs["launcher"], ESCAPE)
    assert await tool("show", event_id) == 0
    assert "s3cret" not in tool.text
    assert f"{len(ESCAPE)} bytes, not JSON" in tool.text
    assert r"\x1b[2J\x00 \xff not json" in tool.text
    assert all(each.isprintable() for line in tool.printed for each in line)
    assert await tool("list") == 0
    assert all(each.isprintable() for line in tool.printed for each in line)


async def test_a_redriven_event_is_due_now_with_all_its_tries_and_the_service_is_notified(
    tool: Tool, dbs: dict[str, Database], database_url: str
) -> None:
    chosen, other = cancelled(1), cancelled(2)
    for message in (chosen, other):
        await park(dbs["launcher"], message, "ValueError: no")
    received: asyncio.Queue[str] = asyncio.Queue()
    conn = await connect(service_dsn(database_url, "launcher", PASSWORDS["launcher"]))
    await conn.add_listener("launcher", lambda *notice: received.put_nowait(str(notice[-1])))
    assert await tool("redrive", chosen.id) == 0
    async with asyncio.timeout(20):
        assert (await received.get()).split()[1:] == [REPORT, RETRY]
    await conn.close()
    assert tool.printed == [f"redriven launcher {chosen.id}"]
    assert await states(dbs["launcher"]) == {
        chosen.id: ("waiting", 0),
        other.id: ("dead", TRIES),
    }
    async with dbs["launcher"].connection() as lane:
        now = datetime.now(UTC)
        due = await parked.lease_parked(lane, now=now, until=now, limit=10)
    assert [(str(each.event_id), each.body) for each in due] == [(chosen.id, chosen.body)]


async def test_all_means_the_dead_and_leaves_alone_what_waits(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    dead, waiting = cancelled(1), cancelled(2)
    await park(dbs["reaper"], dead, "ValueError: no")
    await park(dbs["reaper"], waiting, "ValueError: no", dead=False)
    assert await tool("drop", "--all", "--service", "reaper") == 0
    assert await states(dbs["reaper"]) == {waiting.id: ("waiting", 1)}
    assert await tool("redrive", "--all", "--state", "waiting") == 0
    assert await states(dbs["reaper"]) == {waiting.id: ("waiting", 0)}


async def test_drop_deletes_what_is_named_and_nothing_else(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    chosen, other = cancelled(1), cancelled(2)
    for message in (chosen, other):
        await park(dbs["api"], message, "ValueError: no")
    missing = cloudevents.new_id()
    assert await tool("drop", chosen.id, missing) == 1
    assert tool.printed == [f"dropped api {chosen.id}"]
    assert tool.warned == [f"no dead letter {missing}"]
    assert list(await states(dbs["api"])) == [other.id]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["drop"],
        ["redrive"],
        ["drop", "--all"],
        ["show"],
        ["show", "no-uuid"],
        ["list", "--service", "nobody"],
        ["list", "--limit", "0"],
        ["drop", "--all", "3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11", "--service", "api"],
    ],
)
def test_wrong_arguments_end_with_a_reason_and_status_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


async def test_a_secret_that_is_not_there_is_a_setting_to_mend(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "reaper" / "database_password").unlink()
    with pytest.raises(BadSetting, match="database password of reaper is not known"):
        await tool("list")
    tool.environ["DOCKER_JOB_REAPER_DATABASE_PASSWORD"] = PASSWORDS["reaper"]
    assert await tool("list") == 0


def command(environ: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a process of its own."""
    kept = {name: value for name, value in os.environ.items() if "DOCKER_JOB" not in name}
    return subprocess.run(
        [sys.executable, "-m", "operations.deadletters", *arguments],
        cwd=ROOT, env=kept | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_a_database_that_is_away_is_one_line_and_status_69(tool: Tool) -> None:
    tool.environ["DOCKER_JOB_DATABASE_URL"] = f"postgresql://127.0.0.1:{free_port()}/x"
    done = await asyncio.to_thread(command, tool.environ, "list")
    assert done.returncode == 69
    assert done.stderr.startswith("docker-job deadletters: the database is unavailable")
    assert len(done.stderr.splitlines()) == 1


def test_where_nothing_has_run_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    done = command({"DOCKER_JOB_DATA_DIR": str(tmp_path / "data")}, "list")
    assert (done.returncode, done.stdout) == (78, "")
    assert "DOCKER_JOB_DATA_DIR" in done.stderr
    assert not (tmp_path / "data").exists()


# -- places that cannot be read --------------------------------------------------------------------


def not_read(tool: Tool, *services: str) -> bool:
    """Return whether these were named, each in one line, without a report of emptiness."""
    named = [each.split(" could not be read")[0] for each in tool.warned]
    nothing = [each for each in tool.printed if each.startswith("no dead letters")]
    return named == [f"the parked events of {name}" for name in services] and not nothing


COMMANDS = (
    ("list",),
    ("redrive", "--all"),
    ("drop", "--all", "--service", "launcher"),
)


@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.parametrize(
    "statement", ["DROP SCHEMA launcher CASCADE", "DROP TABLE launcher.parked"]
)
async def test_a_service_that_was_not_migrated_is_named(
    tool: Tool, database_url: str, arguments: tuple[str, ...], statement: str
) -> None:
    conn = await connect(database_url)
    await conn.execute(statement)
    await conn.close()
    assert await tool(*arguments) == 69
    assert not_read(tool, "launcher")
    assert "has its migration run?" in tool.warned[0]


async def test_what_the_other_services_have_is_shown_all_the_same(
    tool: Tool, dbs: dict[str, Database], database_url: str
) -> None:
    message = cancelled(1)
    await park(dbs["api"], message, "ValueError: no")
    conn = await connect(database_url)
    await conn.execute("DROP SCHEMA launcher CASCADE")
    await conn.close()
    assert await tool("list") == 69
    assert message.id in tool.text
    assert await tool("show", message.id) == 69
    assert message.id in tool.text
    assert await tool("list", "--service", "reaper") == 0
    assert tool.printed == ["no dead letters"]
    assert await tool("redrive", message.id) == 69
    assert tool.printed == [f"redriven api {message.id}"]
    assert await tool("drop", message.id) == 69
    assert tool.printed == [f"dropped api {message.id}"]


async def test_an_id_that_may_be_where_it_could_not_look_is_not_reported_missing(
    tool: Tool, database_url: str
) -> None:
    conn = await connect(database_url)
    await conn.execute("DROP SCHEMA launcher CASCADE")
    await conn.close()
    missing = cloudevents.new_id()
    for name in ("show", "redrive", "drop"):
        assert await tool(name, missing) == 69
        assert f"no dead letter {missing} in the places that could be read" in tool.warned
    assert await tool("show", missing, "--service", "api") == 1
    assert tool.warned == [f"no dead letter {missing}"]


@pytest.mark.parametrize("name", ["template1", "there_is_none"])
async def test_in_the_wrong_database_no_place_was_read(
    tool: Tool, database_url: str, name: str
) -> None:
    tool.environ["DOCKER_JOB_DATABASE_URL"] = at_database(database_url, name)
    assert await tool("list") == 69
    assert not_read(tool, *PASSWORDS)


async def test_a_login_that_the_database_refuses_is_named(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "reaper" / "database_password").write_text("of-another-deployment")
    assert await tool("list") == 69
    assert not_read(tool, "reaper")
    assert "of-another-deployment" not in tool.warned[0]


async def test_without_an_address_of_the_database_the_setting_is_named(tool: Tool) -> None:
    del tool.environ["DOCKER_JOB_DATABASE_URL"]
    with pytest.raises(BadSetting, match="DATABASE_URL"):
        await tool("list")


async def test_without_the_broker_nothing_is_reported_missing(tool: Tool) -> None:
    tool.environ["DOCKER_JOB_BUS_URL"] = f"amqp://127.0.0.1:{free_port()}/"
    missing = cloudevents.new_id()
    assert await tool("show", missing) == 69
    assert f"no dead letter {missing} in the places that could be read" in tool.warned
    assert await tool("redrive", "--all") == 69
    assert tool.printed == []


# -- the broker's own dead letters -----------------------------------------------------------------


@pytest.fixture
async def room(rabbitmq: RabbitServer, tool: Tool) -> AsyncIterator[Room]:
    """Make a broker that the tool is configured for."""
    async with migrated_room(rabbitmq) as room:
        tool.environ["DOCKER_JOB_BUS_URL"] = room.url
        yield room


async def test_what_ended_its_readers_is_listed_shown_and_put_back(room: Room, tool: Tool) -> None:
    poison, other = cancelled(1), cancelled(2)
    await kill_readers(room, poison, other)
    for _ in range(2):  # looking leaves everything where it is
        assert await tool("list") == 0
        [line] = [each for each in tool.printed if poison.id in each]
        assert line.split()[:4] == ["scheduler", "broker", "-", "JobCancelled"]
        assert f"its readers ended {DELIVERY_LIMIT} times" in line
        assert len(tool.printed) == 3
    assert await tool("show", poison.id) == 0
    assert "in the broker's queue scheduler.dead" in tool.text
    assert '"job_id": 1' in tool.text
    assert await tool("redrive", poison.id) == 0
    assert tool.printed == [f"redriven scheduler {poison.id}"]
    assert await in_queue(room, "scheduler") == [poison]
    assert await in_queue(room, "launcher") == [poison, other], "no other service gets it again"
    assert [each.id for each in await in_queue(room, "scheduler.dead")] == [other.id]


async def test_what_is_dropped_is_removed_from_the_brokers_queue(room: Room, tool: Tool) -> None:
    poison, other = cancelled(1), cancelled(2)
    await kill_readers(room, poison, other)
    assert await tool("drop", poison.id, "--service", "launcher") == 1
    assert await tool("drop", poison.id) == 0
    assert [each.id for each in await in_queue(room, "scheduler.dead")] == [other.id]
    assert await tool("drop", "--all", "--service", "scheduler", "--event", "JobScheduled") == 0
    assert tool.printed == ["no dead letters match"]
    assert await tool("drop", "--all", "--service", "scheduler") == 0
    assert await in_queue(room, "scheduler.dead") == []
    assert await in_queue(room, "scheduler") == []


async def test_killed_between_confirm_and_acknowledgement_nothing_is_lost(
    room: Room, tool: Tool
) -> None:
    poison = cancelled(1)
    await kill_readers(room, poison)
    environ = tool.environ | {"DOCKER_JOB_EXIT_AT": "deadletters.put_back"}
    killed = await asyncio.to_thread(command, environ, "redrive", poison.id)
    assert killed.returncode == EXIT_STATUS
    assert await in_queue(room, "scheduler") == [poison]
    assert await tool("redrive", "--all") == 0
    assert await in_queue(room, "scheduler") == [poison, poison], "one event id: one effect"
    assert await in_queue(room, "scheduler.dead") == []


async def test_without_the_broker_the_parked_rows_are_shown_and_the_status_is_an_error(
    tool: Tool, dbs: dict[str, Database]
) -> None:
    tool.environ["DOCKER_JOB_BUS_URL"] = f"amqp://127.0.0.1:{free_port()}/"
    message = cancelled(1)
    await park(dbs["api"], message, "ValueError: no")
    assert await tool("list") == 69
    assert message.id in tool.text
    assert [each.split(":")[0] for each in tool.warned] == [
        f"the broker's {name}.dead is unavailable" for name in PASSWORDS
    ]
    assert "s3cret" not in "".join(tool.warned)
