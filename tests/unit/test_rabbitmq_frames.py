"""The frames that are made past the client library, read back by the library's own codec."""

import pamqp.frame
from pamqp import body, commands, header
from pamqp.base import Frame

from shared.bus.rabbitmq.frames import content_frames, publish_frame

CHANNEL = 7
ID = "8d3a1f0e-5a5b-4c3e-9d53-2f8a4e6b7c10"


def parsed(raw: bytes) -> list[object]:
    """Each frame in *raw*, as the library reads it; all are on our channel."""
    found: list[object] = []
    while raw:
        size, channel, frame = pamqp.frame.unmarshal(raw)
        assert channel == CHANNEL
        found.append(frame)
        raw = raw[size:]
    return found


def test_the_method_names_exchange_key_and_whether_a_queue_must_take_it() -> None:
    for mandatory in (True, False):
        [method] = parsed(publish_frame(CHANNEL, "docker-job", "Grüße", mandatory=mandatory))
        assert isinstance(method, Frame)
        expected = commands.Basic.Publish(
            exchange="docker-job", routing_key="Grüße", mandatory=mandatory
        )
        assert isinstance(method, commands.Basic.Publish)
        assert dict(method) == dict(expected)


def test_the_header_says_what_the_message_is_and_which_event_it_tells() -> None:
    frames = parsed(b"".join(content_frames(CHANNEL, b"{}", ID, "n-1", 100)))
    head, content = frames
    assert isinstance(head, header.ContentHeader)
    assert head.body_size == 2
    properties = head.properties
    assert properties.content_type == "application/json"
    assert properties.headers == {"event_id": ID}
    assert properties.delivery_mode == 2
    assert properties.message_id == "n-1"
    assert isinstance(content, body.ContentBody)
    assert content.value == b"{}"


def test_a_long_body_is_cut_into_frames_and_an_empty_one_has_none() -> None:
    long = bytes(range(250))
    _, *parts = parsed(b"".join(content_frames(CHANNEL, long, ID, "n-1", 100)))
    assert b"".join(part.value for part in parts if isinstance(part, body.ContentBody)) == long
    assert len(parts) == 3
    assert len(parsed(b"".join(content_frames(CHANNEL, b"", ID, "n-1", 100)))) == 1
