"""What stands between the socket and the client library, fed by hand."""

import asyncio

import pamqp.frame
from pamqp import body, commands, header

from shared.bus.rabbitmq.frames import Delivered, DeliveryReader, content_frames

TAKEN, OTHER = 3, 4
ID = "8d3a1f0e-5a5b-4c3e-9d53-2f8a4e6b7c10"


def deliver(channel: int, tag: int, *, redelivered: bool = False, text: bytes = b"{}") -> bytes:
    """A delivery as the broker writes it."""
    method = commands.Basic.Deliver("ctag", tag, redelivered, "docker-job", "JobScheduled")
    opening = pamqp.frame.marshal(method, channel)
    return opening + b"".join(content_frames(channel, text, ID, "n-1", 10))


def ack(channel: int) -> bytes:
    return pamqp.frame.marshal(commands.Basic.Ack(1), channel)


async def sorted_out(raw: bytes, chunk: int) -> tuple[list[Delivered], bytes]:
    """What is taken of *raw*, which comes by *chunk* bytes, and what the library reads."""
    source = asyncio.StreamReader()
    reader = DeliveryReader(source)
    taken: list[Delivered] = []
    reader.take(TAKEN, taken.append)
    for start in range(0, len(raw), chunk):
        source.feed_data(raw[start : start + chunk])
    source.feed_eof()
    read = b""
    try:
        while True:
            read += await reader.readexactly(1)
    except asyncio.IncompleteReadError:
        assert reader.at_eof()
    return taken, read


async def test_deliveries_of_the_channel_are_taken_and_all_else_is_handed_on() -> None:
    handed_on = [ack(TAKEN), deliver(OTHER, 5), ack(OTHER)]
    stream = [deliver(TAKEN, 1), handed_on[0], deliver(TAKEN, 2, redelivered=True, text=b"x" * 25)]
    stream += [handed_on[1], deliver(TAKEN, 3, text=b""), handed_on[2]]
    for chunk in (1, 2, 7, 64, 10_000):
        taken, read = await sorted_out(b"".join(stream), chunk)
        assert [(each.tag, each.redelivered, each.body) for each in taken] == [
            (1, False, b"{}"),
            (2, True, b"x" * 25),
            (3, False, b""),
        ]
        assert {(each.routing_key, each.event_id()) for each in taken} == {("JobScheduled", ID)}
        assert read.endswith(b"".join(handed_on))


async def test_frames_of_two_channels_may_be_mixed() -> None:
    """A broker may write another channel's frames between a delivery's method, header and body."""
    method, head, content = (
        pamqp.frame.marshal(commands.Basic.Deliver("c", 9, exchange="e", routing_key="K"), TAKEN),
        *content_frames(TAKEN, b"{}", ID, "n-1", 10),
    )
    taken, read = await sorted_out(method + ack(OTHER) + head + ack(OTHER) + content, 10_000)
    assert [each.tag for each in taken] == [9]
    assert read.endswith(ack(OTHER) + ack(OTHER))


async def test_the_library_sees_a_sign_of_life_while_only_deliveries_come() -> None:
    _, read = await sorted_out(deliver(TAKEN, 1), 10_000)
    _, _, frame = pamqp.frame.unmarshal(read)
    assert frame.name == "Heartbeat"


async def test_what_others_wrote_has_no_id_of_ours_and_any_headers() -> None:
    foreign = header.ContentHeader(
        properties=commands.Basic.Properties(headers={"x": 1}), body_size=2
    )
    raw = pamqp.frame.marshal(commands.Basic.Deliver("c", 1, exchange="", routing_key="K"), TAKEN)
    raw += pamqp.frame.marshal(foreign, TAKEN)
    raw += pamqp.frame.marshal(body.ContentBody(b"{}"), TAKEN)
    taken, _ = await sorted_out(raw, 10_000)
    assert [(each.event_id(), each.body) for each in taken] == [(None, b"{}")]
