"""The services' reports of their dead letters, and what is asked of these, on a real Postgres."""

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.scheduler.config import SchedulerConfig
from services.scheduler.service import build
from shared.bus.port import Message
from shared.bus.rabbitmq import RabbitMQBus
from shared.clock import VirtualClock
from shared.events.events import (
    DeadLetterDropAsked,
    DeadLetterRedriveAsked,
    DeadLettersReported,
    Event,
    JobCancelled,
)
from shared.events.letters import ReportedLetter
from shared.events.readers import MANDATORY
from shared.messaging import parked
from shared.messaging.dead_letter_report import AGAIN, BODY_BYTES, FIRST, LETTERS, LOOK
from shared.messaging.inbox import TRIES
from shared.messaging.parked import REPORT, RETRY, FailedEvent
from shared.postgres.pool import Database
from shared.runtime.service import Ports
from tests.support.bus.broker_room import migrated_room
from tests.support.bus.dead_messages import in_queue, kill_readers
from tests.support.compute.stage import Stage
from tests.support.rows.messages import as_message, wrapped
from tests.support.servers.rabbitmq_kinds import RabbitServer

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = SchedulerConfig(batch=10, prune_batch=10)
MINUTE = 60.0


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("scheduler")


@pytest.fixture
def stage(ports: Ports) -> Stage:
    return Stage(build(CONFIG, ports))


def cancelled(job_id: int) -> Message:
    return as_message(wrapped(JobCancelled(job_id=job_id, attempt=1), at=START))


async def park(db: Database, event: Message, *, dead: bool = True) -> None:
    """Park *event* as its handler leaves it after its tries."""
    async with db.transaction() as tx:
        event_id = uuid.UUID(event.id)
        await parked.park(
            tx, [FailedEvent(event_id, event.name, event.body, "ValueError: no")], tx.now
        )
        for _ in range(TRIES - 1 if dead else 0):
            await parked.postpone_parked(tx, event_id, "ValueError: no", tx.now, dead=dead)


async def reports(stage: Stage) -> list[DeadLettersReported]:
    return await stage.published(DeadLettersReported)


async def letters(stage: Stage) -> tuple[ReportedLetter, ...]:
    return (await reports(stage))[-1].letters


async def states(stage: Stage) -> dict[str, tuple[str, int]]:
    rows = await stage.rows("SELECT event_id, state, tries FROM parked")
    return {str(row["event_id"]): (row["state"], row["tries"]) for row in rows}


# -- reports ---------------------------------------------------------------------------------------


async def test_a_service_without_letters_says_so_once_a_minute_after_its_first_start(
    stage: Stage, clock: VirtualClock
) -> None:
    assert await stage.sweep(REPORT) == START + FIRST
    assert await reports(stage) == [], "the API that reads it may be of the release before"
    clock.advance(MINUTE)
    for _ in range(3):
        assert await stage.sweep(REPORT) is None
        clock.advance(MINUTE)
    [only] = await reports(stage)
    assert only == DeadLettersReported(
        service="scheduler", sequence=1, reported_at=START + FIRST, total=0, letters=()
    )


async def test_a_letter_is_reported_with_its_job_its_error_and_its_content(stage: Stage) -> None:
    event = cancelled(7)
    await park(stage.ports.db, event)
    await stage.sweep(REPORT)
    [report] = await reports(stage)
    assert (report.sequence, report.total) == (1, 1)
    assert report.letters == (
        ReportedLetter(
            event_id=event.id,
            event="JobCancelled",
            place="parked",
            state="dead",
            error="ValueError: no",
            body=event.body.decode(),
            body_bytes=len(event.body),
            tries=TRIES,
            job_id=7,
            since=START,
        ),
    )


async def test_only_a_change_is_reported_again_and_any_report_after_an_hour(
    stage: Stage, clock: VirtualClock
) -> None:
    event = cancelled(1)
    await park(stage.ports.db, event, dead=False)
    for _ in range(3):
        await stage.sweep(REPORT)
        clock.advance(MINUTE)
    assert len(await reports(stage)) == 1
    async with stage.ports.db.transaction() as tx:
        await parked.unpark(tx, uuid.UUID(event.id))
    await stage.sweep(REPORT)
    assert [(each.sequence, each.total) for each in await reports(stage)] == [(1, 1), (2, 0)]
    clock.advance(AGAIN.total_seconds())
    await stage.sweep(REPORT)
    await stage.sweep(REPORT)
    assert [each.sequence for each in await reports(stage)] == [1, 2, 3]


async def test_of_two_replicas_one_reports(stage: Stage, ports: Ports) -> None:
    await park(ports.db, cancelled(1))
    other = Stage(build(CONFIG, dataclasses.replace(ports)))
    await asyncio.gather(*(each.sweep(REPORT) for each in (stage, other, stage, other)))
    assert len(await reports(stage)) == 1


async def test_after_a_long_report_there_is_a_pause(stage: Stage, clock: VirtualClock) -> None:
    for number in range(LETTERS + 5):
        await park(stage.ports.db, cancelled(number))
        clock.advance(0.001)
    await stage.sweep(REPORT)
    [report] = await reports(stage)
    assert report.total == LETTERS + 5
    assert [each.job_id for each in report.letters] == list(range(LETTERS + 4, 4, -1)), "the newest"
    await park(stage.ports.db, cancelled(1000))
    assert await stage.sweep(REPORT) == report.reported_at + timedelta(seconds=30)
    assert len(await reports(stage)) == 1
    clock.advance(30)
    await stage.sweep(REPORT)
    assert (await letters(stage))[0].job_id == 1000


async def test_reports_that_fail_are_not_reported(stage: Stage, clock: VirtualClock) -> None:
    clock.advance(MINUTE)
    await stage.sweep(REPORT)
    failing = DeadLettersReported(
        service="scheduler", sequence=9, reported_at=START, total=0, letters=()
    )
    await park(stage.ports.db, as_message(wrapped(failing)))
    clock.advance(MINUTE)
    await stage.sweep(REPORT)
    assert [each.total for each in await reports(stage)] == [0], "they would never end"


async def test_foreign_bytes_are_shown_as_text_without_secrets(stage: Stage) -> None:
    raw = b'\x1b[2J\x00 \xff amqp://u:s3cret@h {"api_key": "s3cret"} ' + b"x" * 5000
    dead = FailedEvent(uuid.uuid4(), "JobEaten\x1b[31m", raw, "Undecodable: \x1b[2J")
    async with stage.ports.db.transaction() as tx:
        await parked.bury(tx, [dead])
    await stage.sweep(REPORT)
    [letter] = await letters(stage)
    assert "s3cret" not in letter.body
    assert all(text.isprintable() for text in (letter.event, letter.error, letter.body))
    assert letter.body_bytes == len(raw)
    assert len(letter.body) < BODY_BYTES + 100


async def test_an_event_that_is_parked_buried_or_settled_wakes_the_report(
    stage: Stage, ports: Ports
) -> None:
    woken = ports.wakeups.event(REPORT)

    async def wakes(act: Awaitable[Any]) -> bool:
        woken.clear()
        await act
        return woken.is_set()

    inbox, failing = stage.service.inbox, wrapped(JobCancelled(job_id=2**63, attempt=1))
    assert await wakes(inbox.settle([failing]))
    assert not await wakes(inbox.settle([wrapped(JobCancelled(job_id=1, attempt=1))]))
    await due(stage)
    assert await wakes(stage.sweep(RETRY)), "it has failed again"


async def due(stage: Stage) -> None:
    async with stage.ports.db.connection() as conn:
        await conn.execute("UPDATE parked SET due_at = $1", stage.ports.clock.now())


# -- what is asked ---------------------------------------------------------------------------------


def asked(kind: type[Any], event_id: str, service: str = "scheduler") -> Event:
    event: Event = kind(
        service=service, event_id=uuid.UUID(event_id), asked_at=START, asked_by="ana"
    )
    return event


async def test_a_redrive_that_was_asked_makes_it_due_now_with_all_its_tries(
    stage: Stage, ports: Ports
) -> None:
    chosen, other = cancelled(1), cancelled(2)
    for each in (chosen, other):
        await park(ports.db, each)
    for name in (RETRY, REPORT):
        ports.wakeups.event(name).clear()
    await stage.deliver(asked(DeadLetterRedriveAsked, chosen.id))
    assert await states(stage) == {chosen.id: ("waiting", 0), other.id: ("dead", TRIES)}
    assert all(ports.wakeups.event(name).is_set() for name in (RETRY, REPORT))
    await stage.sweep(RETRY)
    assert await states(stage) == {other.id: ("dead", TRIES)}
    await stage.sweep(REPORT)
    assert [each.event_id for each in await letters(stage)] == [other.id]
    await stage.deliver(asked(DeadLetterRedriveAsked, chosen.id))  # asking again is harmless
    assert await states(stage) == {other.id: ("dead", TRIES)}


async def test_a_drop_that_was_asked_deletes_it_for_good(stage: Stage, ports: Ports) -> None:
    chosen, other = cancelled(1), cancelled(2)
    for each in (chosen, other):
        await park(ports.db, each)
    await stage.deliver(asked(DeadLetterDropAsked, chosen.id))
    await stage.deliver(asked(DeadLetterDropAsked, chosen.id))
    assert list(await states(stage)) == [other.id]


async def test_what_is_asked_of_another_service_is_left_alone(stage: Stage) -> None:
    event = cancelled(1)
    await park(stage.ports.db, event)
    for kind in (DeadLetterRedriveAsked, DeadLetterDropAsked):
        await stage.deliver(asked(kind, event.id, service="launcher"))
    assert await states(stage) == {event.id: ("dead", TRIES)}


async def test_a_redrive_that_is_a_dead_letter_itself_can_be_redriven(
    stage: Stage, clock: VirtualClock
) -> None:
    event = cancelled(1)
    inner = as_message(wrapped(asked(DeadLetterRedriveAsked, event.id)))
    for each in (event, inner):
        await park(stage.ports.db, each)
    await stage.deliver(asked(DeadLetterRedriveAsked, inner.id))
    await stage.sweep(RETRY)
    assert await states(stage) == {event.id: ("waiting", 0)}
    clock.advance(MINUTE)
    await stage.sweep(RETRY)
    assert await states(stage) == {}


# -- the broker's own dead letters -----------------------------------------------------------------


async def test_what_the_broker_gave_up_on_is_reported_and_stays_where_it_is(
    rabbitmq: RabbitServer, ports: Ports, clock: VirtualClock
) -> None:
    async with migrated_room(rabbitmq) as room:
        bus = RabbitMQBus(room.of("scheduler"), MANDATORY)
        stage = Stage(build(CONFIG, dataclasses.replace(ports, bus=bus)))
        poison = cancelled(7)
        await kill_readers(room, poison)
        await stage.sweep(REPORT)
        [report] = await reports(stage)
        assert report.total == 1
        [letter] = report.letters
        assert (letter.place, letter.state, letter.tries) == ("broker", "dead", None)
        assert (letter.event_id, letter.event, letter.job_id) == (poison.id, "JobCancelled", 7)
        assert "its readers ended 100 times" in letter.error
        for _ in range(3):
            clock.advance(LOOK.total_seconds())
            await stage.sweep(REPORT)
        assert len(await reports(stage)) == 1, "nothing has changed"
        assert await in_queue(room, "scheduler.dead") == [as_dead(poison, "scheduler")]
        await bus.close()


def as_dead(message: Message, name: str) -> Message:
    """Return *message* with the routing key of a dead letter: its queue's name."""
    return Message(name=name, id=message.id, body=message.body)


async def test_while_the_broker_is_away_the_parked_events_are_reported(
    rabbitmq: RabbitServer, ports: Ports
) -> None:
    async with migrated_room(rabbitmq) as room:
        bus = RabbitMQBus(room.of("scheduler"), MANDATORY)
        await bus.close()
        stage = Stage(build(CONFIG, dataclasses.replace(ports, bus=bus)))
        event = cancelled(1)
        await park(ports.db, event)
        await stage.sweep(REPORT)
        assert [each.event_id for each in await letters(stage)] == [event.id]
