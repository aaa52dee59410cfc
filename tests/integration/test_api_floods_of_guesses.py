"""Floods of wrong keys, tokens and claims: what they cost, and that genuine callers get through.

The addresses are those of a proxy's list: each client of these tests is behind the trusted one.
"""

import asyncio
import dataclasses
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.api.keys.access import REMEMBER_SECONDS, make_key
from services.api.keys.failures import ADDRESSES, SWEEP_SECONDS
from services.api.keys.rates import AGENT_TIMES
from services.api.processes.siblings import Siblings
from services.api.service import REMEMBER_CALLERS, Api, build
from shared import tokens
from shared.clock import VirtualClock
from tests.integration.test_api_agent_groups import CountedDatabase
from tests.integration.test_api_keys import a_key, bearer
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, World, a_config, message_of

NAT = "203.0.113.5"
AT_ONCE = 30
"""The default of FAILURES_AT_ONCE."""

Flooded = tuple[World, CountedDatabase]


@pytest.fixture
async def flooded(world: World, clock: VirtualClock) -> AsyncIterator[Flooded]:
    """Make an API with a key, behind a proxy, that counts its statements."""
    db = CountedDatabase(world.ports.db)
    config = a_config(TRUSTED_PROXIES="127.0.0.1")
    flooded = World(dataclasses.replace(world.ports, db=db), clock, config)
    await a_key(flooded, "admin")
    await flooded.stage.sweep("remember_callers")
    clock.advance(REMEMBER_SECONDS)
    yield flooded, db
    await flooded.close()


def behind(address: str, token: str | None = None) -> dict[str, str]:
    return {"X-Forwarded-For": address, **bearer(token)}


async def guess(world: World, count: int, address: str = NAT) -> Counter[int]:
    """Send wrong keys from one address; return the answers by their status."""
    statuses: Counter[int] = Counter()
    for _ in range(count):
        answer = await world.http.get("/list", headers=behind(address, make_key().text))
        statuses[answer.status_code] += 1
    return statuses


async def guess_tokens(world: World, count: int, job_id: int, address: str = NAT) -> Counter[int]:
    """Send reports with wrong tokens."""
    statuses: Counter[int] = Counter()
    for _ in range(count):
        headers = behind(address, secrets.token_hex(32))
        answer = await world.http.post(f"/agent/jobs/{job_id}/report", json={}, headers=headers)
        statuses[answer.status_code] += 1
    return statuses


def looked_up(db: CountedDatabase) -> int:
    tables = ("api_keys", "attempts", "agent_builds")
    return sum(any(each in text for each in tables) for text in db.statements)


async def test_wrong_keys_cost_no_look_up_past_the_limit(flooded: Flooded) -> None:
    world, db = flooded
    db.statements.clear()
    statuses = await guess(world, 500)
    print(f"{statuses[429]} of 500 guesses refused with {looked_up(db)} look-ups")
    assert statuses == {401: AT_ONCE, 429: 500 - AT_ONCE}
    assert looked_up(db) == AT_ONCE
    db.statements.clear()
    for wrong in ("x", "djk_1234_5", "djk_" + "0" * 5000, "Ünicode", make_key().text):
        answer = await world.http.get("/list", headers=behind(NAT, wrong.encode().hex()))
        assert answer.status_code == 429
    assert db.statements == []


async def test_wrong_tokens_claims_and_hashes_cost_no_look_up_past_the_limit(
    flooded: Flooded,
) -> None:
    world, db = flooded
    db.statements.clear()
    statuses = await guess_tokens(world, 300, job_id=1)
    assert statuses == {401: AT_ONCE, 429: 300 - AT_ONCE}
    assert looked_up(db) == AT_ONCE
    db.statements.clear()
    refused = 0
    for number in range(200):
        body = {"job_id": number + 1, "attempt": 1, "instance_id": "i", "token": "a" * 64}
        answer = await world.http.post(
            "/agent/claim", json={**body, "runtime": "docker"}, headers=behind(NAT, "b" * 64)
        )
        refused += answer.status_code == 429
        path = f"/agent/builds/{secrets.token_hex(32)}"
        refused += (await world.http.get(path, headers=behind(NAT))).status_code == 429
        call_back = await world.http.put("/callback/1", json={}, headers=behind(NAT, "c" * 64))
        refused += call_back.status_code == 429
    print(f"{refused} of 600 guesses refused with {len(db.statements)} statements")
    assert (refused, db.statements) == (600, [])


async def test_a_refusal_names_the_limit_the_setting_and_the_time(
    flooded: Flooded, clock: VirtualClock
) -> None:
    world, _ = flooded
    await guess(world, AT_ONCE)
    answer = await world.http.get("/list", headers=behind(NAT, make_key().text))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= SWEEP_SECONDS
    assert "DOCKER_JOB_FAILURES_PER_SECOND" in message_of(answer)
    clock.advance(float(answer.headers["retry-after"]))
    assert (await guess(world, 10))[401] == int(answer.headers["retry-after"])


async def test_many_addresses_of_one_network_and_many_networks_gain_little(
    flooded: Flooded,
) -> None:
    world, db = flooded
    statuses: Counter[int] = Counter()
    for number in range(100):
        statuses += await guess(world, 1, f"2001:db8::{number:x}")
    assert statuses[401] == AT_ONCE
    db.statements.clear()
    for number in range(1000):
        statuses += await guess(world, 2, f"2001:db8:{number:x}::1")
    print(f"2100 guesses of 1001 networks: {looked_up(db)} look-ups")
    assert looked_up(db) <= ADDRESSES * AT_ONCE


async def test_known_callers_behind_a_guessers_address_are_never_refused(
    flooded: Flooded, clock: VirtualClock
) -> None:
    """Covers the case of fifty agents and a user behind one NAT, and a guesser beside them."""
    world, _ = flooded
    key = await a_key(world, "submit")
    assert (await world.http.get("/list", headers=behind(NAT, key))).status_code == 200
    jobs = [
        (await world.http.post("/schedule", json=JOB, headers=behind(NAT, key))).json()["id"]
        for _ in range(50)
    ]
    agents = [await world.claimed(job_id) for job_id in jobs]
    statuses: Counter[int] = Counter()
    guesses: Counter[int] = Counter()
    for _ in range(12):  # a minute of heartbeats
        guesses += await guess(world, 60)
        answers = await asyncio.gather(
            *(
                world.http.post(
                    f"/agent/jobs/{each.job_id}/report",
                    json={},
                    headers=behind(NAT, each.token),
                )
                for each in agents
            ),
            world.http.get("/list", headers=behind(NAT, key)),
        )
        statuses += Counter(each.status_code for each in answers)
        clock.advance(5)
    print(f"{statuses} of genuine calls, {guesses} of guesses")
    assert statuses == {200: 12 * 51}
    assert guesses[429] > guesses[401]


JOB = {"docker_image": "alpine", "scheduled_for": "now"}


async def test_after_a_restart_genuine_callers_are_known_before_any_guess(
    flooded: Flooded, clock: VirtualClock
) -> None:
    world, _ = flooded
    key = await a_key(world, "submit")
    posted = await world.http.post("/schedule", json=JOB, headers=behind(NAT, key))
    agent = await world.claimed(posted.json()["id"])
    restarted = World(world.ports, clock, world.config)
    await restarted.stage.sweep("remember_callers")
    await guess(restarted, 100)
    path = f"/agent/jobs/{agent.job_id}/report"
    answer = await restarted.http.post(path, json={}, headers=behind(NAT, agent.token))
    assert answer.status_code == 200
    assert (await restarted.http.get("/list", headers=behind(NAT, key))).status_code == 200
    await restarted.close()


async def test_a_token_that_one_process_has_bound_is_known_to_the_other_at_once(
    flooded: Flooded, clock: VirtualClock
) -> None:
    world, _ = flooded
    key, siblings = await a_key(world, "submit"), Siblings()
    one, other = (build(world.config, world.ports, siblings) for _ in range(2))
    posted = await world.http.post("/schedule", json=JOB, headers=behind(NAT, key))
    claims = asyncio.create_task(one.agents.run())
    reports = asyncio.create_task(other.agents.run())
    job_id = posted.json()["id"]
    body = {"job_id": job_id, "attempt": 1, "instance_id": "i", "token": "a" * 64}
    bootstrap = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, 1)
    async with client_of(one) as http:
        answer = await http.post(
            "/agent/claim", json={**body, "runtime": "docker"}, headers=behind(NAT, bootstrap)
        )
        assert answer.status_code == 200
    async with client_of(other) as http:
        path = f"/agent/jobs/{job_id}/report"
        for _ in range(2 * AT_ONCE):
            await http.post(path, json={}, headers=behind(NAT, secrets.token_hex(32)))
        refused = await http.post(path, json={}, headers=behind(NAT, secrets.token_hex(32)))
        answer = await http.post(path, json={}, headers=behind(NAT, "a" * 64))
    assert (refused.status_code, answer.status_code) == (429, 200)
    for each in (claims, reports):
        each.cancel()
    await asyncio.gather(claims, reports, return_exceptions=True)


def client_of(api: Api) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=api.app), base_url="http://localhost"
    )


async def test_a_new_key_or_token_behind_a_guessers_address_waits_for_one_pass(
    flooded: Flooded, clock: VirtualClock
) -> None:
    world, _ = flooded
    await guess(world, AT_ONCE)
    key = await a_key(world, "submit")
    answer = await world.http.get("/list", headers=behind(NAT, key))
    assert answer.status_code == 429, "it cannot be told from a guess yet"
    waited = int(answer.headers["retry-after"])
    for _ in range(waited):  # the guesser takes whatever the address is allowed
        clock.advance(1)
        await guess(world, 20)
    await world.stage.sweep("remember_callers")
    assert (await world.http.get("/list", headers=behind(NAT, key))).status_code == 200
    print(f"a new key got through after {waited} s")


async def test_the_first_refusal_starts_a_pass_at_once(flooded: Flooded) -> None:
    """So a key that is first used in a flood waits for no interval."""
    world, _ = flooded
    woken = world.ports.wakeups.event(REMEMBER_CALLERS)
    woken.clear()
    await guess(world, AT_ONCE)
    assert not woken.is_set()
    await guess(world, 1)
    assert woken.is_set()


async def test_a_pass_that_fails_at_the_start_is_repeated(flooded: Flooded) -> None:
    world, db = flooded
    key = await a_key(world, "submit")
    away = AwayAtFirst(db)
    restarted = World(dataclasses.replace(world.ports, db=away), world.clock, world.config)
    with pytest.raises(ConnectionError):
        await restarted.stage.sweep(REMEMBER_CALLERS)
    away.away = False
    await restarted.stage.sweep(REMEMBER_CALLERS)
    await guess(restarted, 100)
    assert (await restarted.http.get("/list", headers=behind(NAT, key))).status_code == 200
    await restarted.close()


class AwayAtFirst(CountedDatabase):
    """A database that cannot be reached until `away` is false."""

    away = True

    def connection(self) -> Any:
        if self.away:
            raise ConnectionError("away")
        return super().connection()


async def test_a_bootstrap_token_is_computed_and_needs_no_allowance(flooded: Flooded) -> None:
    world, _ = flooded
    key = await a_key(world, "submit")
    posted = await world.http.post("/schedule", json=JOB, headers=behind(NAT, key))
    job_id = posted.json()["id"]
    await guess(world, 100, "127.0.0.1")
    await world.deliver(world.launched(job_id))
    assert (await world.claim(job_id)).status_code == 200


async def test_a_revoked_key_is_remembered_no_longer(flooded: Flooded, clock: VirtualClock) -> None:
    world, db = flooded
    key = await a_key(world, "read")
    assert (await world.http.get("/list", headers=behind(NAT, key))).status_code == 200
    await world.stage.rows("UPDATE api_keys SET revoked_at = now() RETURNING prefix")
    clock.advance(REMEMBER_SECONDS)
    assert (await world.http.get("/list", headers=behind(NAT, key))).status_code == 401
    await guess(world, AT_ONCE)
    db.statements.clear()
    statuses = Counter(
        [(await world.http.get("/list", headers=behind(NAT, key))).status_code for _ in range(100)]
    )
    print(f"a revoked key: {statuses}, {looked_up(db)} look-ups")
    assert statuses == {429: 100}
    assert looked_up(db) == 0


async def test_a_database_that_is_away_is_nobodys_failure(flooded: Flooded) -> None:
    world, db = flooded
    key = await a_key(world, "read")

    class Away(CountedDatabase):
        def connection(self) -> Any:
            raise ConnectionError("away")

    away = World(dataclasses.replace(world.ports, db=Away(db)), world.clock, world.config)
    statuses = Counter(
        [
            (await away.http.get("/list", headers=behind(NAT, key))).status_code
            for _ in range(2 * AT_ONCE)
        ]
    )
    assert statuses == {503: 2 * AT_ONCE}
    await away.close()


async def test_many_first_requests_of_one_key_are_one_look_up(flooded: Flooded) -> None:
    world, db = flooded
    key = await a_key(world, "read")
    db.statements.clear()
    answers = await asyncio.gather(
        *(world.http.get("/list", headers=behind(NAT, key)) for _ in range(3 * AT_ONCE))
    )
    assert {each.status_code for each in answers} == {200}
    assert sum("FROM api_keys" in each for each in db.statements) == 1


async def test_a_key_and_a_token_have_a_limit_of_their_own_by_default(flooded: Flooded) -> None:
    world, _ = flooded
    one, other = await a_key(world, "submit"), await a_key(world, "read")
    posted = await world.http.post("/schedule", json=JOB, headers=behind(NAT, one))
    agent = await world.claimed(posted.json()["id"])
    path = f"/agent/jobs/{agent.job_id}/report"

    def report() -> httpx.Request:
        return world.http.build_request("POST", path, json={}, headers=behind(NAT, agent.token))

    keyed: Counter[int] = Counter()
    reports: Counter[int] = Counter()
    for _ in range(300):
        keyed[(await world.http.get("/about", headers=behind(NAT, one))).status_code] += 1
    for _ in range(200 * AGENT_TIMES + 100):
        reports[(await world.http.send(report())).status_code] += 1
    print(f"at once: a key {keyed}, a token {reports}")
    assert (keyed[200], keyed[429]) == (199, 101)  # the key has posted a job
    assert (reports[200], reports[429]) == (200 * AGENT_TIMES, 100)
    answer = await world.http.get("/about", headers=behind(NAT, other))
    limits = answer.json()["limits"]
    assert (limits["requests_per_second"], limits["requests_at_once"]) == (50, 200)


async def test_a_keyless_loopback_has_no_limit(world: World) -> None:
    statuses = Counter([(await world.http.get("/about")).status_code for _ in range(500)])
    guesses = await guess(world, 100, "127.0.0.1")
    tokens = await guess_tokens(world, 100, 1, "127.0.0.1")
    assert (statuses, guesses, tokens) == ({200: 500}, {401: 100}, {401: 100})
