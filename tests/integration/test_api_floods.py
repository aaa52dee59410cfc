"""Floods of a real API of two processes: its memory, and whether a genuine client is answered.

Memory is the proportional set size of all processes, which a container's limit counts too: below
384 MiB here. `compose.yaml` allows 640, since four processes took up to 465.
"""

import asyncio
import contextlib
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import psutil
import pytest

from services.api.keys.access import NewKey, make_key
from tests.integration.conftest import migrated_database
from tests.integration.test_api_processes import Running, started

MIB = 2**20
LIMIT_BYTES = 384 * MIB
SECONDS = 30.0
PATIENCE_SECONDS = 30.0
"""The longest time for a genuine request, on a busy machine."""

JOB = json.dumps({"docker_image": "alpine", "scheduled_for": "+1d"}).encode()
ROUTES = (
    "POST /schedule", "POST /plan", "POST /jobs/1/rerun", "POST /agent/claim",
    "POST /agent/jobs/1/report", "PUT /callback/1", "GET /list",
)  # fmt: skip
BEARERS = (
    "",
    "Authorization: Bearer djk_00000000_" + "0" * 64 + "\r\n",
    "Authorization: Bearer " + "0" * 64 + "\r\n",
)

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Flooded:
    """An API that needs a key, and the connections of its attackers."""

    def __init__(self, api: Running, keys: list[NewKey]) -> None:
        self.port = api.port
        self.keys = [{"Authorization": f"Bearer {key.text}"} for key in keys]
        self.peak = 0
        self._api = api
        self.statuses: Counter[str] = Counter()

    def memory(self) -> int:
        family = [self._api.parent, *self._api.children]
        size = sum(each.memory_full_info().pss for each in family)
        self.peak = max(self.peak, size)
        return int(size)

    async def send(self, data: bytes, *, then_read: bool = True) -> str:
        """Send *data*; return the status of the first answer, "none", "held" or "closed"."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
        except OSError:
            return "refused"
        self._opened.append((reader, writer))
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(data)
            async with asyncio.timeout(5):
                await writer.drain()
        if not then_read:
            return "held"
        try:
            async with asyncio.timeout(15):
                line = await reader.readline()
        except TimeoutError:
            return "held"
        except ConnectionError:
            return "closed"
        return line.split()[1].decode() if line else "closed"

    async def flood(self, many: list[bytes], *, then_read: bool = True) -> Counter[str]:
        """Send each of *many* on a connection of its own, all at once, and keep these open."""
        self._opened: list[Opened] = []
        sending = [asyncio.create_task(self.send(each, then_read=then_read)) for each in many]
        base, slowest = self.memory(), 0.0
        while not all(each.done() for each in sending):
            slowest = max(slowest, await self.genuine())
        slowest = max(slowest, await self.genuine())
        size = self.memory()
        found = Counter(each.result() for each in sending)
        print(
            f"\n{base // MIB} MiB before; {len(many)} connections: {dict(found)}; "
            f"{size // MIB} MiB, {self.peak // MIB} at the peak; "
            f"a genuine call took {slowest:.2f} s at most"
        )
        for _, writer in self._opened:
            writer.transport.abort()
        assert self.peak < LIMIT_BYTES
        return found

    async def genuine(self) -> float:
        """Make a genuine call on a new connection; return its seconds."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        for _ in range(3):  # a client repeats a 503
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS
                ) as http:
                    answer = await http.get("/list?limit=1", headers=self.keys[0])
                    self.memory()
                    if answer.status_code == 200:
                        await asyncio.sleep(0.02)  # between two measures
                        return clock() - begun
        raise AssertionError("a genuine call was not answered")


@pytest.fixture(scope="module")
def running(postgres_server: str, template_database: str) -> Iterator[tuple[Running, list[NewKey]]]:
    with migrated_database(postgres_server, template_database) as database:
        keys = [make_key(), make_key()]
        asyncio.run(_insert(database, keys))
        with started(database) as api:
            yield api, keys


async def _insert(database: str, keys: list[NewKey]) -> None:
    conn = await asyncpg.connect(database)
    for key in keys:
        await conn.execute(
            "INSERT INTO api.api_keys (prefix, name, scope, key_hash, created_at) "
            "VALUES ($1, $1, 'submit', $2, now())",
            key.prefix,
            key.hashed,
        )
    await conn.close()


@pytest.fixture
async def flooded(running: tuple[Running, list[NewKey]]) -> AsyncIterator[Flooded]:
    api, keys = running
    yield Flooded(api, keys)
    assert all(psutil.pid_exists(each.pid) for each in api.children)
    assert len(api.children) == 2


def head(route: str, bearer: str, *lines: str) -> bytes:
    fields = "".join(f"{line}\r\n" for line in ("Host: localhost", *lines))
    return f"{route} HTTP/1.1\r\n{fields}{bearer}\r\n".encode()


async def test_bodies_of_4_mib_without_a_token_are_not_kept(flooded: Flooded) -> None:
    body = b'{"docker_image": "' + b"x" * (4 * MIB - 20)
    many = [
        head(route, bearer, f"Content-Length: {4 * MIB}") + body
        for route in ROUTES
        for bearer in BEARERS
        for _ in range(4)
    ]
    found = await flooded.flood(many)
    assert found["201"] == found["200"] == 0
    assert found["401"] + found["413"] > len(many) // 2


async def test_half_bodies_are_not_kept(flooded: Flooded) -> None:
    many = [
        head(route, bearer, "Content-Length: 65536") + b"{" + b" " * 60_000
        for route in ROUTES
        for bearer in BEARERS
        for _ in range(15)
    ]
    found = await flooded.flood(many)
    assert found["201"] == found["200"] == 0


async def test_idle_connections_and_half_heads_give_way(flooded: Flooded) -> None:
    many = [b"", b"GET /list HTTP/1.1\r\nHost: local", b"POST "] * 1000
    found = await flooded.flood(many)
    assert found["closed"] + found["408"] + found["503"] >= 500, "beyond 2,000 some are closed"


async def test_large_heads_are_given_up(flooded: Flooded) -> None:
    large = b"GET /list HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 60_000
    found = await flooded.flood([large] * 600)
    assert found["503"] + found["closed"] > 200


@pytest.mark.parametrize("path", ["/openapi.json", "/agent/agent.py", "/healthz"])
async def test_answers_that_are_not_read_are_given_up(flooded: Flooded, path: str) -> None:
    one = head(f"GET {path}", "")
    await flooded.flood([one * (64_000 // len(one))] * 200, then_read=False)


async def test_a_compressed_body_is_refused_and_not_unpacked(flooded: Flooded) -> None:
    bomb = gzip.compress(b" " * 64 * MIB)
    key = "".join(f"{name}: {value}\r\n" for name, value in flooded.keys[0].items())
    lines = ("Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    found = await flooded.flood([head("POST /schedule", key, *lines) + bomb] * 50)
    assert found["400"] + found["503"] == 50


async def test_a_keys_followers_leave_places_for_another_key(flooded: Flooded) -> None:
    key, other = (f"Authorization: {each['Authorization']}\r\n" for each in flooded.keys)
    found = await flooded.flood([head("GET /events", key)] * 700)
    assert found["429"] >= 100
    assert found["200"] <= 502, "two processes share a thousand places; one key gets half"
    assert await flooded.flood([head("GET /events", other)] * 5) == {"200": 5}


@pytest.mark.parametrize("piece", ["[],", "1.5,", '{"a":[0]},'])
async def test_bodies_of_many_values_are_read_one_at_a_time(flooded: Flooded, piece: str) -> None:
    """With a key: objects take more memory than their JSON."""
    body = ("[" + piece * (4 * MIB // len(piece) - 2) + "0]").encode()
    key = f"Authorization: {flooded.keys[0]['Authorization']}\r\n"
    found = await flooded.flood(
        [head("POST /schedule", key, f"Content-Length: {len(body)}") + body] * 20
    )
    assert found["400"] + found["503"] + found["held"] == 20
