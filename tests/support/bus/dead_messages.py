"""Messages that the broker has given up on, since their readers ended again and again."""

import aio_pika

from operations.wiring import TOPOLOGY
from shared.bus.port import Message
from shared.bus.rabbitmq import RabbitMQBus
from shared.bus.rabbitmq.topology import dead_queue
from tests.support.bus.broker_room import Room
from tests.support.bus.bus_room import bound_names


async def kill_readers(room: Room, *messages: Message) -> None:
    """Leave *messages* among the scheduler's dead letters: by deliveries without an end."""
    bus = RabbitMQBus(room.of("api"), bound_names(TOPOLOGY))
    await bus.publish(messages)
    await bus.close()
    connection = await aio_pika.connect(room.of("scheduler"), timeout=10)
    async with connection:
        dead = 0
        while dead < len(messages):
            async with connection.channel() as channel:
                queue = await channel.get_queue("scheduler", ensure=False)
                while await queue.get(fail=False, timeout=10) is not None:
                    pass
            async with connection.channel() as channel:
                kept = await channel.declare_queue(dead_queue("scheduler"), passive=True)
                dead = kept.declaration_result.message_count or 0


async def in_queue(room: Room, queue: str) -> list[Message]:
    """Return the contents of *queue*, which stay there."""
    found: list[Message] = []
    connection = await aio_pika.connect(room.url, timeout=10)
    async with connection, connection.channel() as channel:
        whole = await channel.get_queue(queue, ensure=False)
        while (each := await whole.get(fail=False, timeout=10)) is not None:
            found.append(
                Message(name=each.routing_key or "", id=each.message_id or "", body=each.body)
            )
    return found
