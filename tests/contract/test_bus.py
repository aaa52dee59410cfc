"""The promises of every bus.

Memory's own promise, that a confirmation waits for the readers, is at the end.
"""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from shared.bus.memory import MemoryBus
from shared.bus.port import Bus, BusUnavailable
from tests.support.bus.bus_cases import (
    ADAPTERS,
    CHAOS_SEEDS,
    TOPOLOGY,
    ack_all,
    by_id,
    crashing_reader,
    message,
    messages,
    opened,
    take_all,
    take_singly,
)
from tests.support.bus.bus_room import BusRoom
from tests.support.servers.rabbitmq_server import Brokers

SECOND_VERSION = "rabbitmq-installed"
"""Debian's broker, where there is another one too: the whole suite over it is for the campaign."""


@pytest.fixture(
    params=[
        pytest.param(each, marks=pytest.mark.campaign) if each == SECOND_VERSION else each
        for each in ADAPTERS
    ]
)
async def room(request: pytest.FixtureRequest, brokers: Brokers) -> AsyncIterator[BusRoom]:
    async with opened(request.param, brokers) as room:
        yield room


@pytest.fixture
def bus(room: BusRoom) -> Bus:
    return room.bus


@pytest.fixture
async def memory() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus(TOPOLOGY)
    yield bus
    await bus.close()


async def turns() -> None:
    """Let everything run that can run now: in memory nothing else is ever on its way."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_each_bound_queue_gets_each_message_as_it_was_sent(bus: Bus) -> None:
    fruit, apples = await bus.subscribe("fruit"), await bus.subscribe("apples")
    sent = [
        message("Apple", b"\x00\xff \n"),
        message("Apple", b""),
        message("Pear", b"p" * 300_000),
    ]
    publishing = asyncio.create_task(bus.publish(sent))
    assert await ack_all(fruit, 3) == by_id(sent)
    assert await ack_all(apples, 2) == by_id(sent[:2])
    await publishing


async def test_a_message_that_no_queue_wants_is_confirmed(bus: Bus) -> None:
    await bus.publish([message("Plum")])


async def test_nothing_to_publish_is_confirmed(bus: Bus) -> None:
    await bus.publish([])


async def test_many_messages_are_published_at_once(bus: Bus) -> None:
    sent = messages("Pear", 1200)
    fruit = await bus.subscribe("fruit")
    publishing = asyncio.create_task(bus.publish(sent))
    missing = {each.id for each in sent}
    while missing:  # whatever each take brings: more than so many are never under way
        for delivery in await fruit.take(100):
            missing.discard(delivery.message.id)
            await delivery.ack()
    await publishing


async def test_a_batch_is_never_more_than_asked_for(bus: Bus) -> None:
    fruit = await bus.subscribe("fruit")
    publishing = asyncio.create_task(bus.publish(messages("Pear", 10)))
    found = 0
    while found < 10:
        deliveries = await fruit.take(3)
        assert 1 <= len(deliveries) <= 3
        found += len(deliveries)
        for delivery in deliveries:
            await delivery.ack()
    await publishing


async def test_what_was_not_acknowledged_comes_again_after_the_subscription_closed(
    bus: Bus,
) -> None:
    sent = messages("Pear", 6)
    first = await bus.subscribe("fruit")
    publishing = asyncio.create_task(bus.publish(sent))
    deliveries = await take_all(first, 6)
    settled = deliveries[:2]
    for delivery in settled:
        await delivery.ack()
    await first.close()
    again = await ack_all(await bus.subscribe("fruit"), 4)
    assert again == by_id([each.message for each in deliveries[2:]])
    await publishing


async def test_what_was_never_taken_waits_for_the_next_subscriber(bus: Bus) -> None:
    sent = messages("Pear", 3)
    first = await bus.subscribe("fruit")
    publishing = asyncio.create_task(bus.publish(sent))
    [taken] = await first.take(1)
    await first.close()
    assert taken.message in sent
    assert await ack_all(await bus.subscribe("fruit"), 3) == by_id(sent)
    await publishing


async def test_an_acknowledged_message_never_comes_again(bus: Bus) -> None:
    first = await bus.subscribe("fruit")
    publishing = asyncio.create_task(bus.publish(messages("Pear", 5)))
    await ack_all(first, 5)
    await publishing
    await first.close()
    second = await bus.subscribe("fruit")
    later = message("Pear", b"later")
    publishing = asyncio.create_task(bus.publish([later]))
    assert await ack_all(second, 1) == [later]
    await publishing


async def test_a_delivery_says_how_often_it_came_back_from_readers_that_died(
    room: BusRoom,
) -> None:
    sent = messages("Pear", 5)
    publishing = asyncio.create_task(room.bus.publish(sent))
    for deaths in range(4):
        async with room.mortal_reader("fruit") as doomed:
            assert [each.returned for each in await take_singly(doomed, 5)] == [deaths] * 5
    survivor = await room.bus.subscribe("fruit")
    for delivery in await take_singly(survivor, 5):
        assert delivery.returned == 4
        await delivery.ack()
    await publishing
    publishing = asyncio.create_task(room.bus.publish([message("Pear")]))
    [fresh] = await survivor.take(10)
    assert fresh.returned == 0
    await fresh.ack()
    await publishing


async def test_two_subscriptions_share_one_queue(bus: Bus) -> None:
    sent = messages("Pear", 40)
    readers = [await bus.subscribe("fruit"), await bus.subscribe("fruit")]
    publishing = asyncio.create_task(bus.publish(sent))
    found: list[str] = []
    all_read = asyncio.Event()

    async def read(number: int) -> None:
        while True:
            for delivery in await readers[number].take(3):
                found.append(delivery.message.id)
                await delivery.ack()
            if len(found) == len(sent):
                all_read.set()

    reading = [asyncio.create_task(read(0)), asyncio.create_task(read(1))]
    await all_read.wait()
    await publishing
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    assert sorted(found) == sorted(each.id for each in sent)


async def test_a_take_that_is_cancelled_takes_nothing_along(bus: Bus) -> None:
    fruit = await bus.subscribe("fruit")
    waiting = asyncio.create_task(fruit.take(10))
    await turns()
    waiting.cancel()
    sent = message("Pear")
    publishing = asyncio.create_task(bus.publish([sent]))
    assert await ack_all(fruit, 1) == [sent]
    await publishing


async def test_publishing_again_what_was_not_confirmed_is_safe(bus: Bus) -> None:
    sent = messages("Pear", 5)
    unknown = asyncio.create_task(bus.publish(sent))
    await turns()
    unknown.cancel()  # as a timeout does: nothing is known of these
    await asyncio.gather(unknown, return_exceptions=True)
    fruit = await bus.subscribe("fruit")
    publishing = asyncio.create_task(bus.publish(sent))
    while not publishing.done():
        taking = asyncio.create_task(fruit.take(10))
        await asyncio.wait({taking, publishing}, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            taking.cancel()
            break
        for delivery in taking.result():
            assert delivery.message in sent
            await delivery.ack()
    await publishing


async def test_a_closed_subscription_hands_out_nothing(bus: Bus) -> None:
    fruit = await bus.subscribe("fruit")
    waiting = asyncio.create_task(fruit.take(1))
    await turns()
    await fruit.close()
    with pytest.raises(BusUnavailable):
        await waiting
    with pytest.raises(BusUnavailable):
        await fruit.take(1)
    await fruit.close()


async def test_it_is_ready_until_it_is_closed(bus: Bus) -> None:
    assert await bus.ready()
    await bus.subscribe("fruit")
    assert await bus.ready()
    await bus.close()
    assert not await bus.ready()
    await bus.close()


async def test_a_closed_bus_publishes_nothing(bus: Bus) -> None:
    await bus.close()
    with pytest.raises(BusUnavailable):
        await bus.publish([message("Apple")])


async def test_the_second_version_of_the_broker_counts_deaths_and_hands_out_as_the_first(
    brokers: Brokers,
) -> None:
    """The versions have differed here. The campaign runs the whole suite on the second one."""
    async with opened(SECOND_VERSION, brokers) as room:
        await test_a_delivery_says_how_often_it_came_back_from_readers_that_died(room)
    async with opened(SECOND_VERSION, brokers) as room:
        await test_each_bound_queue_gets_each_message_as_it_was_sent(room.bus)


# -- memory alone ----------------------------------------------------------------------------------


async def test_in_memory_a_publish_is_confirmed_when_every_queue_has_acknowledged(
    memory: MemoryBus,
) -> None:
    fruit, apples = await memory.subscribe("fruit"), await memory.subscribe("apples")
    publishing = asyncio.create_task(memory.publish([message("Apple"), message("Pear")]))
    await ack_all(fruit, 2)
    await turns()
    assert not publishing.done()
    await ack_all(apples, 1)
    await publishing


async def test_in_memory_closing_lets_waiting_publishers_fail(memory: MemoryBus) -> None:
    publishing = [asyncio.create_task(memory.publish([message("Apple")])) for _ in range(3)]
    await turns()
    assert not any(each.done() for each in publishing)
    await memory.close()
    for each in publishing:
        with pytest.raises(BusUnavailable):
            await each


async def test_in_memory_an_event_that_is_here_still_is_not_queued_twice(
    memory: MemoryBus,
) -> None:
    sent = message("Pear")
    publishing = [asyncio.create_task(memory.publish([sent])) for _ in range(2)]
    await turns()
    fruit = await memory.subscribe("fruit")
    [delivery] = await fruit.take(10)
    await delivery.ack()
    await asyncio.gather(*publishing)


async def test_in_memory_a_closed_subscription_steals_nothing_from_the_next(
    memory: MemoryBus,
) -> None:
    first = await memory.subscribe("fruit")
    waiting = asyncio.create_task(first.take(10))
    await turns()
    publishing = asyncio.create_task(memory.publish([message("Pear")]))
    await first.close()  # in the same breath: the waiting take sees message and end together
    await turns()
    assert isinstance(waiting.exception(), BusUnavailable)
    await ack_all(await memory.subscribe("fruit"), 1)
    await publishing


@pytest.mark.parametrize("seed", CHAOS_SEEDS)
async def test_with_chaos_and_dying_readers_every_event_still_comes_at_least_once(
    seed: int,
) -> None:
    bus = MemoryBus(TOPOLOGY, random.Random(seed))
    sent = messages("Apple", 30)
    seen: dict[str, list[str]] = {queue: [] for queue in TOPOLOGY}
    reading = [
        asyncio.create_task(crashing_reader(bus, queue, random.Random(seed), seen[queue], 30))
        for queue in TOPOLOGY
    ]
    await bus.publish(sent)
    await asyncio.gather(*reading)
    for found in seen.values():
        assert set(found) == {each.id for each in sent}


@pytest.mark.parametrize("seed", CHAOS_SEEDS)
async def test_chaos_shuffles_and_doubles(seed: int) -> None:
    bus = MemoryBus(TOPOLOGY, random.Random(seed))
    publishing = asyncio.create_task(bus.publish(messages("Pear", 30)))
    fruit = await bus.subscribe("fruit")
    await turns()
    deliveries = await fruit.take(100)
    order = [int(each.message.body) for each in deliveries]
    assert len(order) > 30
    assert order != sorted(order)
    for delivery in deliveries:
        await delivery.ack()
    await publishing


async def test_the_same_seed_makes_the_same_chaos() -> None:
    orders = []
    for _ in range(2):
        bus = MemoryBus(TOPOLOGY, random.Random(7))
        publishing = asyncio.create_task(bus.publish(messages("Pear", 30)))
        fruit = await bus.subscribe("fruit")
        await turns()
        deliveries = await fruit.take(100)
        orders.append([each.message.body for each in deliveries])
        for delivery in deliveries:
            await delivery.ack()
        await publishing
    assert orders[0] == orders[1]
