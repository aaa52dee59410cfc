"""The two frames that there are many of, publish and deliver, without the library's objects.

aiormq makes of each delivery three frame objects, three queue entries and a task: 65 µs on the
machine of docs/performance.md, more than all that a handler costs in a batch. A `DeliveryReader`
stands between the socket and the library: it takes the deliveries of the channels that asked for
them out of the stream, and hands everything else on. Layout: AMQP 0-9-1, sections 2.3.5 and 4.2.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import NamedTuple

_FRAME = struct.Struct(">BHI")  # kind, channel, size; payload and an end octet follow
_END = b"\xce"
_METHOD, _HEADER, _BODY = 1, 2, 3
_HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00" + _END
_DELIVER = b"\x00\x3c\x00\x3c"
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"
_CONTENT = struct.Struct(">HHQH")  # class, weight, body size, which properties there are
_BASIC = 60
_OUR_PROPERTIES = 0xB080  # content_type, headers, delivery_mode, message_id, in this order
_CONTENT_TYPE = b"\x10application/json"
_PERSISTENT = b"\x02"

EVENT_ID = "event_id"
"""The header with the event's id. The property `message_id` is fresh for each publish: two in
flight with the same one would lose a return.
"""
_EVENT_ID_FIELD = b"\x08event_idS"

READ_BYTES = 65_536
SIGN_OF_LIFE_SECONDS = 1.0


def _short(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + _END


def publish_frame(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """The method frame, the same for each message of one name."""
    method = _PUBLISH + _short(exchange) + _short(routing_key) + bytes((mandatory,))
    return _frame(_METHOD, channel, method)


def content_frames(
    channel: int, body: bytes, event_id: str, message_id: str, most: int
) -> list[bytes]:
    """Header and body of one persistent message, in frames of *most* bytes of body."""
    told = event_id.encode()
    table = _EVENT_ID_FIELD + len(told).to_bytes(4, "big") + told
    header = (
        _CONTENT.pack(_BASIC, 0, len(body), _OUR_PROPERTIES)
        + _CONTENT_TYPE
        + len(table).to_bytes(4, "big")
        + table
        + _PERSISTENT
        + _short(message_id)
    )
    frames = [_frame(_HEADER, channel, header)]
    frames += [
        _frame(_BODY, channel, body[start : start + most]) for start in range(0, len(body), most)
    ]
    return frames


class Delivered(NamedTuple):
    """One delivery. *header* is its content header, as it came."""

    tag: int
    redelivered: bool
    routing_key: str
    header: bytes
    body: bytes

    def event_id(self) -> str | None:
        """The event's id where the header has it as we write it; unchecked."""
        at = self.header.find(_EVENT_ID_FIELD)
        if at < 0:
            return None
        at += len(_EVENT_ID_FIELD)
        size = int.from_bytes(self.header[at : at + 4], "big")
        return self.header[at + 4 : at + 4 + size].decode(errors="replace")


class _Coming:
    """A delivery that is not complete yet."""

    def __init__(self, method: bytes) -> None:
        at = 5 + method[4]  # behind the consumer's tag
        self.tag = int.from_bytes(method[at : at + 8], "big")
        self.redelivered = bool(method[at + 8] & 1)
        at += 10 + method[at + 9]  # behind the exchange
        self.routing_key = method[at + 1 : at + 1 + method[at]].decode(errors="replace")
        self.header = b""
        self.size = 0
        self.parts: list[bytes] = []

    def whole(self) -> Delivered:
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        return Delivered(self.tag, self.redelivered, self.routing_key, self.header, body)


class DeliveryReader(asyncio.StreamReader):
    """What the library reads from: *source* without the deliveries that others take."""

    def __init__(self, source: asyncio.StreamReader) -> None:
        super().__init__()
        self._source = source
        self._takers: dict[int, Callable[[Delivered], None]] = {}
        self._coming: dict[int, _Coming] = {}
        self._unsorted = b""
        self._for_library = bytearray()
        self._handed_on_at = 0.0

    def take(self, channel: int, taker: Callable[[Delivered], None]) -> None:
        """From now on *taker* gets what is delivered on *channel*."""
        self._takers[channel] = taker

    def at_eof(self) -> bool:
        return not self._for_library and self._source.at_eof()

    async def read(self, n: int = -1) -> bytes:
        """What is here; the library reads so only what it does not understand."""
        size = len(self._for_library) if n < 0 else n
        return self._cut(size)

    async def readexactly(self, n: int) -> bytes:
        while len(self._for_library) < n:
            data = await self._source.read(READ_BYTES)
            if not data:
                raise asyncio.IncompleteReadError(self._cut(len(self._for_library)), n)
            self._sort(data)
        return self._cut(n)

    def _cut(self, size: int) -> bytes:
        cut = bytes(self._for_library[:size])
        del self._for_library[:size]
        return cut

    def _sort(self, data: bytes) -> None:
        """Frame by frame: to its taker, or on to the library."""
        data = self._unsorted + data
        at = 0
        while len(data) - at >= _FRAME.size:
            kind, channel, size = _FRAME.unpack_from(data, at)
            start, end = at + _FRAME.size, at + _FRAME.size + size + 1
            if len(data) < end:
                break
            if not self._is_taken(kind, channel, data[start : end - 1]):
                self._for_library += data[at:end]
            at = end
        self._unsorted = data[at:]
        # While it delivers the broker sends no heartbeats, and the library must not miss them.
        now = asyncio.get_running_loop().time()
        if self._for_library:
            self._handed_on_at = now
        elif now - self._handed_on_at > SIGN_OF_LIFE_SECONDS:
            self._for_library += _HEARTBEAT
            self._handed_on_at = now

    def _is_taken(self, kind: int, channel: int, payload: bytes) -> bool:
        taker = self._takers.get(channel)
        if taker is None:
            return False
        if kind == _METHOD:
            if not payload.startswith(_DELIVER):
                return False
            self._coming[channel] = _Coming(payload)
            return True
        coming = self._coming.get(channel)
        if coming is None:
            return False
        if kind == _HEADER:
            coming.header = payload
            coming.size = int.from_bytes(payload[4:12], "big")
        else:
            coming.parts.append(payload)
            coming.size -= len(payload)
        if coming.size == 0:
            del self._coming[channel]
            taker(coming.whole())
        return True
