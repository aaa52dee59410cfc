"""The load generator: closed-loop clients on raw HTTP/1.1, in a process of their own.

python -m bench.client < load.json      prints the outcome as JSON

A client sends its next request when the answer to the last one is complete. Requests are prepared
bytes and answers are measured, not parsed: the generator takes a tenth of the server's CPU time.
"""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Ask(Struct, frozen=True, kw_only=True):
    """One kind of request, to one of *paths* each time, *weight* times as often as weight 1."""

    kind: str
    method: str
    paths: Sequence[str]
    body: str = ""
    weight: float = 1.0


class Load(Struct, frozen=True, kw_only=True):
    """A load: *clients* in parallel for *seconds*, after a warm-up that does not count."""

    host: str
    port: int
    clients: int
    seconds: float
    asks: Sequence[Ask]
    warm_up_seconds: float = 0.5


class RequestStats(Struct, frozen=True, kw_only=True):
    """The statistics of one kind of request; times in milliseconds."""

    count: int
    rate: float
    p50_ms: float
    p99_ms: float


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of a load; *statuses* are counts of answers by status."""

    statuses: dict[int, int]
    kinds: dict[str, RequestStats]

    @property
    def rate(self) -> float:
        """The answers a second, of all kinds."""
        return sum(each.rate for each in self.kinds.values())


class _Run:
    """The state that all clients of a load share."""

    def __init__(self, load: Load) -> None:
        self._asks = [(each.kind, _requests(load, each)) for each in load.asks]
        self._weights = [each.weight for each in load.asks]
        self.counts_from = time.perf_counter() + load.warm_up_seconds
        self.ends_at = self.counts_from + load.seconds
        self.seconds: dict[str, list[float]] = {each.kind: [] for each in load.asks}
        self.statuses: dict[int, int] = {}

    def draw(self) -> tuple[str, bytes]:
        """Draw the next request; return its kind and its bytes."""
        if len(self._asks) == 1:
            kind, requests = self._asks[0]
        else:
            [(kind, requests)] = random.choices(self._asks, self._weights)
        return kind, requests[0] if len(requests) == 1 else random.choice(requests)

    def outcome(self, load: Load) -> Outcome:
        """Return the result."""
        kinds = {}
        for kind, seconds in self.seconds.items():
            seconds.sort()
            kinds[kind] = RequestStats(
                count=len(seconds),
                rate=len(seconds) / load.seconds,
                p50_ms=1000 * _quantile(seconds, 0.5),
                p99_ms=1000 * _quantile(seconds, 0.99),
            )
        return Outcome(statuses=self.statuses, kinds=kinds)


def _requests(load: Load, ask: Ask) -> list[bytes]:
    body = ask.body.encode()
    length = f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n" if body else ""
    return [
        f"{ask.method} {path} HTTP/1.1\r\nHost: {load.host}\r\n{length}\r\n".encode() + body
        for path in ask.paths
    ]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run, done: "asyncio.Future[None]") -> None:
        self._run = run
        self._done = done
        self._buffer = b""
        self._kind = ""
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._kind, request = self._run.draw()
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(HEAD_END)
        if head < 0:
            return
        at = self._buffer.find(LENGTH, 0, head) + len(LENGTH)
        length = int(self._buffer[at : self._buffer.find(b"\r", at)])
        if len(self._buffer) < head + len(HEAD_END) + length:
            return
        now = time.perf_counter()
        run = self._run
        if run.counts_from <= now < run.ends_at:
            status = int(self._buffer[9:12])
            run.statuses[status] = run.statuses.get(status, 0) + 1
            run.seconds[self._kind].append(now - self._sent_at)
        self._buffer = b""
        if now >= run.ends_at:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def _put(load: Load) -> Outcome:
    loop = asyncio.get_running_loop()
    run = _Run(load)
    ends = [loop.create_future() for _ in range(load.clients)]
    for end in ends:
        await loop.create_connection(lambda end=end: _Client(run, end), load.host, load.port)  # type: ignore[misc]
    await asyncio.gather(*ends)
    return run.outcome(load)


async def put_load(load: Load) -> Outcome:
    """Put *load* on a server, from a process of its own. Raises RuntimeError for errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(msgspec.json.encode(load))
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    outcome = msgspec.json.decode(out, type=Outcome)
    wrong = {status: n for status, n in outcome.statuses.items() if status >= 300}
    if wrong or not outcome.statuses:
        raise RuntimeError(f"answers of the wrong kind: {wrong or 'none at all'}")
    return outcome


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(
            uvloop.run(_put(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
        )
    )
