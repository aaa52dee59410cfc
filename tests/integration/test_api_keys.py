"""API keys: each scope's rights on each route, storage, and revocation."""

import argparse
import itertools
from typing import Any

import pytest

from services.api.http.server import check_exposure
from services.api.keys import commands as key_commands
from services.api.keys.access import REMEMBER_SECONDS, SCOPES, make_key, prefix_of
from shared import tokens
from shared.clock import VirtualClock
from shared.settings import BadSetting
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, World, message_of

READ, SUBMIT, ADMIN, OPEN, AGENT = "read", "submit", "admin", "open", "agent"
NEEDS = {
    ("GET", "/list"): READ,
    ("GET", "/status/{id}"): READ,
    ("GET", "/jobs/{id}/logs"): READ,
    ("GET", "/events"): READ,
    ("POST", "/schedule"): SUBMIT,
    ("DELETE", "/jobs/{id}"): SUBMIT,
    ("POST", "/jobs/{id}/rerun"): SUBMIT,
    ("DELETE", "/jobs/{id}/record"): ADMIN,
    ("GET", "/totals"): READ,
    ("GET", "/deadletters"): ADMIN,
    ("GET", "/deadletters/{event_id}"): ADMIN,
    ("POST", "/deadletters/{event_id}/redrive"): ADMIN,
    ("DELETE", "/deadletters/{event_id}"): ADMIN,
    ("GET", "/stats"): READ,
    ("GET", "/instances"): READ,
    ("GET", "/about"): READ,
    ("GET", "/keys"): ADMIN,
    ("POST", "/keys"): ADMIN,
    ("DELETE", "/keys/{prefix}"): ADMIN,
    ("GET", "/audit"): ADMIN,
    ("GET", "/quotas"): READ,
    ("POST", "/plan"): READ,
    ("PUT", "/callback/{id}"): AGENT,
    ("POST", "/agent/claim"): AGENT,
    ("POST", "/agent/jobs/{id}/report"): AGENT,
    ("GET", "/agent/agent.py"): OPEN,
    ("GET", "/agent/builds/{sha256}"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/openapi.json"): OPEN,
}
"""What each route asks of its caller."""

BODIES: dict[str, Any] = {
    "/schedule": {"docker_image": "alpine", "scheduled_for": "now"},
    "/plan": {"docker_image": "alpine", "scheduled_for": "now"},
    "/agent/claim": {
        "job_id": 1, "attempt": 1, "instance_id": "i", "token": "a" * 64, "runtime": "docker"
    },
}  # fmt: skip
REFUSED = {401, 403}


async def a_key(world: World, scope: str) -> str:
    """Make a new key's text."""
    printed: list[str] = []
    command = key_commands.parser().parse_args(["create", "--name", scope, "--scope", scope])
    assert await key_commands.run(world.ports.db, command, printed.append) == 0
    return printed[0]


def bearer(text: str | None) -> dict[str, str]:
    return {} if text is None else {"Authorization": f"Bearer {text}"}


async def test_the_matrix_has_every_route_that_there_is(world: World) -> None:
    assert world.routes == set(NEEDS)


REFUSED_AFTER_THE_KEY = {"/events": "/events?after=x"}
"""A stream that has begun has no end."""

CALLERS = ["nobody", "a made-up key", "a revoked key", *SCOPES, "an agent", "a bootstrap token"]


@pytest.mark.parametrize(("caller", "route"), list(itertools.product(CALLERS, NEEDS)))
async def test_each_caller_may_do_what_its_key_says_and_nothing_else(
    world: World, clock: VirtualClock, caller: str, route: tuple[str, str]
) -> None:
    agent = await world.running()  # before there is a key: the API is open
    keys: dict[str, str | None] = {scope: await a_key(world, scope) for scope in SCOPES}
    keys["nobody"] = None
    keys["a made-up key"] = make_key().text
    revoked = keys["a revoked key"] = await a_key(world, "admin")
    await revoke(world, revoked)
    keys["an agent"] = agent.token
    keys["a bootstrap token"] = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 1)
    clock.advance(REMEMBER_SECONDS)
    method, path = route
    before = await world.rows()
    answer = await world.http.request(
        method,
        REFUSED_AFTER_THE_KEY.get(path, path).replace("{id}", str(agent.job_id)),
        json=BODIES.get(path, {}) if method in ("POST", "PUT") else None,
        headers=bearer(keys[caller]),
    )
    if allowed(caller, NEEDS[route], path):
        assert answer.status_code not in REFUSED, answer.text
        return
    # A key of ours whose scope is not enough gets the reason; any other caller learns nothing.
    known = caller in SCOPES and NEEDS[route] in (READ, SUBMIT, ADMIN)
    assert answer.status_code == (403 if known else 401), answer.text
    assert message_of(answer)
    assert await world.rows() == before


def allowed(caller: str, needs: str, path: str) -> bool:
    if needs == OPEN:
        return True
    if needs == AGENT:
        return caller == ("a bootstrap token" if path == "/agent/claim" else "an agent")
    return caller in SCOPES and SCOPES.index(caller) >= SCOPES.index(needs)


async def revoke(world: World, key: str) -> int:
    command = argparse.Namespace(command="revoke", prefix=prefix_of(key))
    return await key_commands.run(world.ports.db, command, lambda _text: None)


async def test_a_key_is_kept_as_its_hash_and_shown_once(world: World) -> None:
    key = await a_key(world, "submit")
    assert len(key.rpartition("_")[2]) == 64, "256 bits"
    shown: list[str] = []
    listing = argparse.Namespace(command="list")
    assert await key_commands.run(world.ports.db, listing, shown.append) == 0
    kept = repr(await world.stage.rows("SELECT * FROM api_keys"))
    secret = key.rpartition("_")[2]
    for text in (kept, "\n".join(shown)):
        assert secret not in text
        assert str(prefix_of(key)) in text


async def test_another_key_with_a_known_prefix_is_refused(world: World) -> None:
    key = await a_key(world, "admin")
    forged = f"{key.rpartition('_')[0]}_{'0' * 64}"
    for text in (forged, key[:-1], key + "0", key.upper()):
        assert (await world.http.get("/list", headers=bearer(text))).status_code == 401
    assert (await world.http.get("/list", headers=bearer(key))).status_code == 200


async def test_a_revoked_key_is_good_for_nothing_within_five_seconds(
    world: World, clock: VirtualClock
) -> None:
    key = await a_key(world, "read")
    assert (await world.http.get("/list", headers=bearer(key))).status_code == 200
    assert await revoke(world, key) == 0
    clock.advance(5)
    answer = await world.http.get("/list", headers=bearer(key))
    assert (answer.status_code, message_of(answer)) == (401, "this API key is unknown or revoked")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_revoking_the_last_key_locks_the_door(world: World, clock: VirtualClock) -> None:
    assert (await world.http.get("/list")).status_code == 200, "no key yet: it is open"
    key = await a_key(world, "admin")
    clock.advance(REMEMBER_SECONDS)
    assert (await world.http.get("/list")).status_code == 401
    await revoke(world, key)
    clock.advance(REMEMBER_SECONDS)
    assert (await world.http.get("/list")).status_code == 401


async def test_a_claim_says_whether_a_job_may_reach_the_hosts_services(
    world: World, clock: VirtualClock
) -> None:
    job = await world.post()
    await world.deliver(world.launched(job["id"]))
    answer = await world.claim(job["id"])
    assert answer.json()["settings"]["host_services"] is True, "one user's own machine"
    await a_key(world, "submit")
    clock.advance(REMEMBER_SECONDS)
    answer = await world.claim(job["id"])
    assert answer.json()["settings"]["host_services"] is False, "others share it"


async def test_when_a_key_was_last_used_is_known_to_the_minute(
    world: World, clock: VirtualClock
) -> None:
    key = await a_key(world, "read")
    used = []
    for _ in range(3):
        await world.http.get("/list", headers=bearer(key))
        [row] = await world.stage.rows("SELECT last_used_at FROM api_keys")
        used.append(row["last_used_at"])
        clock.advance(40)
    assert used[0] == used[1] < used[2]


async def test_an_address_that_others_reach_is_refused_without_a_key(world: World) -> None:
    db = world.ports.db
    await check_exposure("127.0.0.1", db, "program")
    with pytest.raises(BadSetting, match=r"there is no API key: make one first \(program keys"):
        await check_exposure("0.0.0.0", db, "program")
    key = await a_key(world, "read")
    await check_exposure("0.0.0.0", db, "program")
    await revoke(world, key)
    with pytest.raises(BadSetting):
        await check_exposure("::", db, "program")


async def test_each_caller_has_its_own_rate_and_gets_the_time_to_try_again(
    world: World, clock: VirtualClock
) -> None:
    busy = world.again(REQUESTS_PER_SECOND="1", REQUESTS_AT_ONCE="3")
    one, other = await a_key(world, "read"), await a_key(world, "read")
    statuses = [(await busy.http.get("/list", headers=bearer(one))).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = await busy.http.get("/list", headers=bearer(one))
    assert refused.headers["retry-after"] == "1"
    assert message_of(refused).startswith("too many requests: wait ")
    assert (await busy.http.get("/list", headers=bearer(other))).status_code == 200
    clock.advance(1)
    assert (await busy.http.get("/list", headers=bearer(one))).status_code == 200
    await busy.close()
