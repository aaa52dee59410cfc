"""The limits of the API as two processes, which count callers together."""

import asyncio
import json
import socket
from collections import Counter

import pytest

from services.api.keys.access import make_key
from shared.postgres.pool import connect
from tests.integration.test_api_processes import answer_of, database, started

__all__ = ["database"]  # a fixture

GUESSES = 200
AT_ONCE = 30


async def add_key(database: str) -> str:
    """Make a submit key; return its text."""
    key, conn = make_key(), await connect(database)
    await conn.execute(
        "INSERT INTO api.api_keys (prefix, name, scope, key_hash, created_at) "
        "VALUES ($1, 'me', 'submit', $2, now())",
        key.prefix,
        key.hashed,
    )
    await conn.close()
    return key.text


def ask(client: socket.socket, key: str, path: str = "/list") -> tuple[int, bytes]:
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}")
    client.sendall("\r\n".join((*lines, "", "")).encode())
    return answer_of(client)


@pytest.mark.parametrize("known_to", [0, 1])
def test_both_count_the_failures_of_an_address_and_refuse_no_key_that_one_has_seen(
    database: str, known_to: int
) -> None:
    key = asyncio.run(add_key(database))
    with started(database) as api:
        clients = [api.connect(child) for child in api.children]
        assert ask(clients[known_to], key)[0] == 200
        statuses = Counter(ask(clients[each % 2], make_key().text)[0] for each in range(GUESSES))
        genuine = [ask(client, key)[0] for client in clients]
        _, about = ask(clients[0], key, "/about")
        assert api.end() == 0
    print(f"{statuses} of {GUESSES} guesses at two processes; the key {genuine}")
    assert genuine == [200, 200]
    assert statuses[401] < 2 * AT_ONCE, "not each process its own allowance"
    assert json.loads(about)["limits"]["requests_per_second"] == 50
