"""The RabbitMQ adapter against the faults of brokers: absence, restart, freeze, block, cut."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NoReturn

import pytest

from shared.bus.port import BusUnavailable, Message, QueueMissing
from shared.bus.rabbitmq import RabbitMQBus, TopologyError, declare_topology
from shared.bus.rabbitmq.subscription import QueueSubscription
from tests.support.bus.bus_rabbitmq import take
from tests.support.bus.bus_room import bound_names
from tests.support.run.ports import free_port
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost, manage

TOPOLOGY = {"reader": ("Told", "Asked"), "other": ("Told",)}


@pytest.fixture
def broker(broker_to_break: RabbitServer) -> RabbitServer:
    """Return a broker that the test may break."""
    return broker_to_break


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a virtual host of the broker that the test breaks, or else of the shared one."""
    breaks = "broker" in request.fixturenames
    server = request.getfixturevalue("broker" if breaks else "rabbitmq")
    with fresh_vhost(server, remove=not breaks) as vhost_url:
        asyncio.run(declare_topology(vhost_url, TOPOLOGY))
        yield vhost_url


@pytest.fixture
async def rabbit(url: str) -> AsyncIterator[RabbitMQBus]:
    bus = RabbitMQBus(url, bound_names(TOPOLOGY))
    yield bus
    await bus.close()


def message(name: str = "Told", body: bytes = b"{}") -> Message:
    return Message(name=name, id=str(uuid.uuid4()), body=body)


async def take_all(subscription: QueueSubscription, count: int) -> set[str]:
    """Take and acknowledge until *count* different events have come; returns their ids."""
    taken: set[str] = set()
    async with asyncio.timeout(30):
        while len(taken) < count:
            for delivery in await subscription.take(100):
                taken.add(delivery.message.id)
                await delivery.ack()
    return taken


def ids(messages: Sequence[Message]) -> set[str]:
    return {each.id for each in messages}


async def test_without_a_listener_every_call_is_unavailable_and_readiness_false() -> None:
    bus = RabbitMQBus(f"amqp://guest:guest@127.0.0.1:{free_port()}/", bound_names(TOPOLOGY))
    assert not await bus.ready()
    with pytest.raises(BusUnavailable, match="connect"):
        await bus.publish([message()])
    with pytest.raises(BusUnavailable, match="connect"):
        await bus.subscribe("reader")
    await bus.close()


async def test_a_missing_topology_is_unavailable_until_a_migration(
    rabbitmq: RabbitServer,
) -> None:
    with fresh_vhost(rabbitmq) as empty:
        bus = RabbitMQBus(empty, bound_names(TOPOLOGY))
        lost = message()
        unconfirmed = await bus.publish([lost])  # there is no exchange
        assert "NOT_FOUND" in unconfirmed[lost.id]
        with pytest.raises(QueueMissing, match="no queue 'reader': run the migration"):
            await bus.subscribe("reader")
        await declare_topology(empty, TOPOLOGY)
        subscription = await bus.subscribe("reader")
        sent = message()
        await bus.publish([sent])
        assert await take_all(subscription, 1) == {sent.id}
        await bus.close()


async def test_a_name_of_ours_without_its_queue_is_an_error_and_a_name_for_anyone_is_not(
    url: str, rabbit: RabbitMQBus
) -> None:
    wider = RabbitMQBus(url, {*bound_names(TOPOLOGY), "Missing"})
    lost = message("Missing")
    unconfirmed = await wider.publish([lost])
    assert unconfirmed[lost.id].startswith("no queue takes Missing: run the migration")
    assert await rabbit.publish([message("JobFinished")]) == {}
    await wider.close()


async def test_a_message_larger_than_a_frame_arrives_whole(rabbit: RabbitMQBus) -> None:
    subscription = await rabbit.subscribe("reader")
    await rabbit.publish([message(body=b"x" * 300_000), message(body=b"")])
    sizes = {len(each.message.body) for each in await subscription.take(1)}
    sizes |= {len(each.message.body) for each in await subscription.take(1)}
    assert sizes == {300_000, 0}


async def test_a_message_of_another_publisher_gets_an_id_made_of_its_bytes(
    rabbit: RabbitMQBus,
) -> None:
    subscription = await rabbit.subscribe("reader")
    await rabbit.publish([Message(name="Told", id="no uuid", body=b"same")] * 2)
    seen: list[str] = []
    while len(seen) < 2:
        seen += [each.message.id for each in await subscription.take(2)]
    assert seen[0] == seen[1]
    uuid.UUID(seen[0])


async def test_readiness_wants_a_consumer_where_this_process_consumes(
    url: str, rabbit: RabbitMQBus
) -> None:
    assert await rabbit.ready()
    first = await rabbit.subscribe("reader")
    assert await rabbit.ready()
    await first.close()
    assert not await rabbit.ready()
    await rabbit.subscribe("reader")
    assert await rabbit.ready()


async def test_dropped_connections_in_the_middle_of_a_batch_bring_the_rest_again(
    broker: RabbitServer, rabbit: RabbitMQBus
) -> None:
    messages = [message() for _ in range(50)]
    subscription = await rabbit.subscribe("reader")
    await rabbit.publish(messages)
    first, *rest = await take(subscription, 50)
    await first.ack()
    await asyncio.to_thread(broker.ctl, "close_all_connections", "--global", "a test")
    with pytest.raises(BusUnavailable):
        await _take_forever(subscription)
    with pytest.raises(BusUnavailable):
        await rest[0].ack()
    await subscription.close()
    again = await rabbit.subscribe("reader")
    async with asyncio.timeout(30):
        assert await take_all(again, 49) >= ids(messages) - {first.message.id}


async def _take_forever(subscription: QueueSubscription) -> NoReturn:
    while True:
        await subscription.take(50)


async def test_publishing_goes_on_after_connections_were_dropped(
    broker: RabbitServer, rabbit: RabbitMQBus
) -> None:
    await rabbit.publish([message()])
    await asyncio.to_thread(broker.ctl, "close_all_connections", "--global", "a test")
    sent = message()
    with contextlib.suppress(BusUnavailable):  # it may not have noticed yet
        await rabbit.publish([message()])
    await rabbit.publish([sent])
    subscription = await rabbit.subscribe("reader")
    assert sent.id in await take_all(subscription, 2)


async def test_a_restart_loses_nothing_that_was_confirmed(
    broker: RabbitServer, rabbit: RabbitMQBus
) -> None:
    messages = [message() for _ in range(20)]
    subscription = await rabbit.subscribe("reader")
    await rabbit.publish(messages)
    held = await subscription.take(5)
    await asyncio.to_thread(broker.stop)
    assert not await rabbit.ready()
    with pytest.raises(BusUnavailable):
        await held[0].ack()
    with pytest.raises(BusUnavailable):
        await rabbit.publish([message()])
    await asyncio.to_thread(broker.start)
    again = await rabbit.subscribe("reader")
    assert await take_all(again, 20) == ids(messages)
    assert await rabbit.ready()


async def test_a_killed_broker_loses_nothing_that_was_confirmed(
    broker: RabbitServer, rabbit: RabbitMQBus
) -> None:
    messages = [message() for _ in range(20)]
    await rabbit.publish(messages)
    await asyncio.to_thread(broker.kill)
    with pytest.raises(BusUnavailable):
        await rabbit.publish([message()])
    await asyncio.to_thread(broker.start)
    assert await take_all(await rabbit.subscribe("reader"), 20) == ids(messages)


async def test_a_publish_waits_for_a_memory_alarm_to_end(
    broker: RabbitServer, rabbit: RabbitMQBus
) -> None:
    subscription = await rabbit.subscribe("reader")
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.0001")
    try:
        sent = message()
        publishing = asyncio.create_task(rabbit.publish([sent]))
        async with asyncio.timeout(10):
            while await rabbit.ready():  # each asks the broker
                assert not publishing.done()
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.6")
    async with asyncio.timeout(10):
        await publishing
    assert await take_all(subscription, 1) == {sent.id}
    assert await rabbit.ready()


async def test_a_long_alarm_is_unavailable_and_the_same_bus_goes_on_afterwards(
    broker: RabbitServer, url: str
) -> None:
    bus = RabbitMQBus(url, bound_names(TOPOLOGY), confirm_seconds=0.5)
    await bus.publish([message("JobFinished")])
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.0001")
    try:
        with pytest.raises(BusUnavailable, match="no answer in time"):
            await bus.publish([message("JobFinished")])
        with pytest.raises(BusUnavailable, match="alarm"):
            await bus.publish([message("JobFinished")])
        # Acknowledging goes on meanwhile: it has a connection of its own.
        await bus.subscribe("other")
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.6")
    sent = message()
    async with asyncio.timeout(20):
        while not await bus.ready():
            pass
    await bus.publish([sent])
    assert await take_all(await bus.subscribe("reader"), 1) == {sent.id}
    await bus.close()


async def test_an_alarm_does_not_hold_up_closing(broker: RabbitServer, url: str) -> None:
    bus = RabbitMQBus(url, bound_names(TOPOLOGY), confirm_seconds=0.5)
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.0001")
    try:
        large = [message(body=b"x" * 100_000) for _ in range(200)]  # more than sockets hold
        with pytest.raises(BusUnavailable):
            await bus.publish(large)
        async with asyncio.timeout(8):
            await bus.close()
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.6")


async def test_a_frozen_broker_is_unavailable_within_the_bound_and_thawed_it_goes_on(
    broker: RabbitServer, url: str
) -> None:
    bus = RabbitMQBus(url, bound_names(TOPOLOGY), confirm_seconds=1)
    subscription = await bus.subscribe("reader")
    await bus.publish([message()])
    await asyncio.to_thread(broker.freeze)
    try:
        with pytest.raises(BusUnavailable, match="no answer in time"):
            await bus.publish([message()])
        async with asyncio.timeout(4):
            assert not await bus.ready()
    finally:
        await asyncio.to_thread(broker.thaw)
    sent = message()
    await bus.publish([sent])
    taken = await take_all(subscription, 2)
    assert sent.id in taken or sent.id in await take_all(subscription, 1)
    async with asyncio.timeout(8):
        await bus.close()


async def test_closing_finishes_what_is_under_way(url: str) -> None:
    bus = RabbitMQBus(url, bound_names(TOPOLOGY))
    subscription = await bus.subscribe("reader")
    async with asyncio.TaskGroup() as publishing:
        publishing.create_task(bus.publish([message() for _ in range(500)]))
        taken = list(await subscription.take(100))
        for delivery in taken:
            await delivery.ack()
        await bus.close()
    with pytest.raises(BusUnavailable, match="closed"):
        await bus.publish([message()])
    with pytest.raises(BusUnavailable):
        await subscription.take(1)
    again = RabbitMQBus(url, bound_names(TOPOLOGY))
    rest = await take_all(await again.subscribe("reader"), 500 - len(taken))
    assert rest.isdisjoint(each.message.id for each in taken)
    await again.close()


async def test_a_queue_that_was_declared_otherwise_is_refused_in_words(
    rabbitmq: RabbitServer,
) -> None:
    if rabbitmq.management_url is None:
        pytest.skip("the broker that is given has no management API")
    with fresh_vhost(rabbitmq) as empty:
        vhost = empty.rpartition("/")[2]
        body = {"durable": True, "arguments": {"x-queue-type": "classic"}}
        manage(rabbitmq.management_url, "PUT", f"/api/queues/{vhost}/reader", body)
        with pytest.raises(TopologyError, match="declared differently"):
            await declare_topology(empty, TOPOLOGY)


async def test_a_binding_that_is_wanted_no_more_goes_with_the_next_migration(
    url: str,
) -> None:
    await declare_topology(url, {"reader": ("Asked",), "other": ("Told",)})
    bus = RabbitMQBus(url, bound_names(TOPOLOGY))
    asked = message("Asked")
    await bus.publish([message("Told"), asked])
    subscription = await bus.subscribe("reader")
    assert await take_all(subscription, 1) == {asked.id}
    await bus.close()
