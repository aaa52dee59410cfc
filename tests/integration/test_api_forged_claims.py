"""Forged claims by role: what they cost, and that genuine ones get through in bounded time."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from msgspec import structs

from services.api.agents.sts_calls import AT_ONCE, OF_ONE, WAITING, AnswerMemory
from services.api.keys.failures import ADDRESSES
from shared import tokens
from shared.clock import VirtualClock
from tests.integration.conftest import migrated_database
from tests.integration.test_api_identity import INSTANCE, OTHER_TOKEN, TOKEN, Signer, launched
from tests.support.api.api_world import World, a_config, message_of
from tests.support.api.served_world import served_world
from tests.support.compute.aws_account import REGION, ROLE_ARN, FakeSts, session_of

OTHER_INSTANCE = "i-0fedcba9876543210"


class PatientSts(FakeSts):
    """STS that answers no forged request until `let_go`, and counts those that it holds."""

    def __init__(self, now: Any) -> None:
        super().__init__(now)
        self.holds = False
        self.held = 0
        self.throttled = 0
        self.let_go = threading.Event()

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        if self.throttled:
            self.throttled -= 1
            return 400, "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"
        given = {name.lower(): value for name, value in headers.items()}
        if self.holds and "ASIAFORGED" in given["authorization"]:
            self.held += 1
            self.let_go.wait(30)
        return super().answer(method, path, headers, raw)


@pytest.fixture
def sts(clock: VirtualClock) -> Any:
    server = PatientSts(clock.now)
    with server.serving():
        yield server
        server.let_go.set()


def settings_of(sts: FakeSts) -> dict[str, str]:
    return {
        "INSTANCE_ROLE_ARN": ROLE_ARN,
        "STS_REGION": REGION,
        "STS_URL": sts.url,
        "TRUSTED_PROXIES": "127.0.0.1",
    }


@pytest.fixture
async def ec2(world: World, sts: FakeSts) -> AsyncIterator[World]:
    ec2 = World(world.ports, world.clock, a_config(**settings_of(sts)))
    yield ec2
    await ec2.close()


def signer_of(sts: FakeSts, clock: VirtualClock, instance: str = INSTANCE) -> Signer:
    return Signer(sts, clock, session_of(instance))


class Forger(Signer):
    """Signs with a key that STS has not issued."""

    def __init__(self, sts: FakeSts, clock: VirtualClock) -> None:
        super().__init__(sts, clock)
        self.key, self.secret = "ASIAFORGED0000000000", "guessed"


async def claim(
    http: httpx.AsyncClient,
    signer: Signer,
    token: str = TOKEN,
    *,
    address: str = "203.0.113.5",
    names: str | None = None,
) -> httpx.Response:
    body: dict[str, Any] = {
        "identity": signer.proof(token),
        "token": token,
        "runtime": "docker",
    } | ({} if names is None else {"instance_id": names})
    return await http.post("/agent/claim", json=body, headers={"X-Forwarded-For": address})


async def until_held(sts: PatientSts, count: int) -> None:
    while sts.held < count:  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0.01)


def address_of(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


async def test_a_claim_for_an_instance_that_is_not_ours_never_reaches_sts(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    forger = Forger(sts, clock)
    statuses: Counter[int] = Counter()
    for number in range(200):
        answer = await claim(ec2.http, forger, names=f"i-{number:017x}", address="198.51.100.1")
        statuses[answer.status_code] += 1
    print(f"200 claims of made-up instances: {statuses}, STS asked {sts.asked} times")
    assert (sts.asked, statuses) == (0, {202: 30, 429: 170})
    genuine = await claim(ec2.http, signer_of(sts, clock), names=INSTANCE, address="198.51.100.1")
    assert genuine.status_code == 429, "not known yet, behind the guesser's own address"
    await ec2.stage.sweep("remember_callers")
    genuine = await claim(ec2.http, signer_of(sts, clock), names=INSTANCE, address="198.51.100.1")
    assert (genuine.status_code, sts.asked) == (200, 1)


async def test_forged_claims_without_a_name_leave_the_lane_of_named_ones_free(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    """Covers a flood from many addresses while STS answers none of it."""
    await launched(ec2)
    forger, sts.holds = Forger(sts, clock), True
    flood = [
        asyncio.create_task(
            claim(ec2.http, forger, secrets.token_hex(32), address=address_of(number))
        )
        for number in range(300)
    ]
    await until_held(sts, AT_ONCE)
    genuine = await claim(ec2.http, signer_of(sts, clock), names=INSTANCE)
    assert genuine.status_code == 200
    assert sts.held == AT_ONCE
    refused = [each.result().status_code for each in flood if each.done()]
    sts.let_go.set()
    statuses = Counter([(await each).status_code for each in flood])
    print(f"a genuine claim during 300 forged ones: 200; {len(refused)} refused at once {statuses}")
    assert refused == [503] * (300 - AT_ONCE - WAITING)
    assert statuses == {503: len(refused), 401: AT_ONCE + WAITING}


async def test_whoever_knows_the_id_of_one_instance_takes_the_place_of_no_other(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    await launched(ec2, OTHER_INSTANCE)
    forger, sts.holds = Forger(sts, clock), True
    flood = [
        asyncio.create_task(
            claim(
                ec2.http,
                forger,
                secrets.token_hex(32),
                names=OTHER_INSTANCE,
                address=address_of(number),
            )
        )
        for number in range(100)
    ]
    await until_held(sts, OF_ONE)
    assert (await claim(ec2.http, signer_of(sts, clock), names=INSTANCE)).status_code == 200
    sts.let_go.set()
    statuses = Counter([(await each).status_code for each in flood])
    print(f"100 forged claims of a known instance: {statuses}")
    assert statuses == {401: OF_ONE, 503: 100 - OF_ONE}
    other = await claim(
        ec2.http, signer_of(sts, clock, OTHER_INSTANCE), OTHER_TOKEN, names=OTHER_INSTANCE
    )
    assert other.status_code == 200


async def test_an_address_that_forges_claims_of_a_known_instance_is_limited_for_it_alone(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    await launched(ec2, OTHER_INSTANCE)
    forger = Forger(sts, clock)
    statuses = Counter(
        [
            (await claim(ec2.http, forger, secrets.token_hex(32), names=INSTANCE)).status_code
            for _ in range(100)
        ]
    )
    assert statuses == {401: 30, 429: 70}
    assert sts.asked == 30
    other = await claim(
        ec2.http, signer_of(sts, clock, OTHER_INSTANCE), OTHER_TOKEN, names=OTHER_INSTANCE
    )
    assert other.status_code == 200
    elsewhere = await claim(ec2.http, signer_of(sts, clock), names=INSTANCE, address="192.0.2.1")
    assert elsewhere.status_code == 200


async def test_a_refusal_is_remembered_for_the_very_same_claim_and_no_other(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    forged = Forger(sts, clock).proof()
    for number in range(20):
        body = {"identity": forged, "token": TOKEN, "runtime": "docker", "instance_id": INSTANCE}
        headers = {"X-Forwarded-For": address_of(number)}
        answer = await ec2.http.post("/agent/claim", json=body, headers=headers)
        assert answer.status_code == 401
    assert sts.asked == 1
    assert (await claim(ec2.http, signer_of(sts, clock), names=INSTANCE)).status_code == 200


async def test_a_throttled_sts_refuses_nobody(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    sts.throttled = 1
    genuine = signer_of(sts, clock)
    answer = await claim(ec2.http, genuine, names=INSTANCE)
    assert (answer.status_code, "try again" in message_of(answer)) == (503, True)
    assert (await claim(ec2.http, genuine, names=INSTANCE)).status_code == 200


async def test_a_claim_that_names_another_instance_than_its_own_is_refused(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    await launched(ec2, OTHER_INSTANCE)
    before = await ec2.rows()
    answer = await claim(ec2.http, signer_of(sts, clock, OTHER_INSTANCE), names=INSTANCE)
    assert (answer.status_code, "names another instance" in message_of(answer)) == (403, True)
    again = await claim(ec2.http, signer_of(sts, clock, OTHER_INSTANCE), names=INSTANCE)
    assert again.status_code == 403
    assert await ec2.rows() == before


@pytest.mark.parametrize("wrong", ["i-1", "", "i-0123456789abcdef0; DROP", 7, [INSTANCE]])
async def test_a_wrong_name_is_a_400(
    ec2: World, sts: PatientSts, clock: VirtualClock, wrong: Any
) -> None:
    body = {"identity": signer_of(sts, clock).proof(), "token": TOKEN, "runtime": "docker"}
    answer = await ec2.http.post("/agent/claim", json=body | {"instance_id": wrong})
    assert (answer.status_code, "instance_id" in message_of(answer)) == (400, True)


async def test_a_remembered_answer_counts_for_the_very_same_signed_request_alone(
    ec2: World, sts: PatientSts, clock: VirtualClock
) -> None:
    """Its instance is not known yet, so no row has the signature: only the memory can give it."""
    job_id = (await ec2.post())["id"]
    proof = signer_of(sts, clock).proof()
    first = {"identity": proof, "token": TOKEN, "runtime": "docker"}
    assert (await ec2.http.post("/agent/claim", json=first)).status_code == 202
    await ec2.deliver(structs.replace(ec2.launched(job_id), instance_id=INSTANCE))
    stolen = {"x-docker-job-token": tokens.token_hash(OTHER_TOKEN).hex()}
    headers = proof["headers"]
    changed: list[tuple[dict[str, str], str]] = [
        (headers | stolen, OTHER_TOKEN),  # the thief's own token, with the agent's signature
        (headers | {"x-amz-security-token": "another"}, TOKEN),
        (headers | {"content-type": "text/plain"}, TOKEN),
        (headers | {"x-amz-date": headers["x-amz-date"][:-3] + "01Z"}, TOKEN),
        (
            headers | {"authorization": headers["authorization"].replace("ASIA", "ASIB", 1)},
            TOKEN,
        ),
        (headers, OTHER_TOKEN),
    ]
    before, got = await ec2.rows(), 0
    for number, (each, token) in enumerate(changed):
        body = {"identity": {"headers": each, "body": proof["body"]}, "token": token}
        answer = await ec2.http.post(
            "/agent/claim",
            json=body | {"runtime": "docker"},
            headers={"X-Forwarded-For": address_of(number)},
        )
        got += answer.status_code != 401
    print(f"{got} of {len(changed)} changed proofs got an answer of the remembered one")
    assert got == 0
    assert await ec2.rows() == before
    replayed = await ec2.http.post("/agent/claim", json=first)
    assert replayed.status_code == 200
    asked, rows = sts.asked, await ec2.rows()
    elsewhere = {"X-Forwarded-For": "192.0.2.99"}
    again = await ec2.http.post("/agent/claim", json=first, headers=elsewhere)
    assert (again.json(), sts.asked) == (replayed.json(), asked)
    assert await ec2.rows() == rows


def test_the_memory_of_answers_is_bounded_and_drops_the_oldest() -> None:
    memory: AnswerMemory[int] = AnswerMemory(most=3)
    for number in range(10):
        memory.add(bytes([number]), number)
    assert [memory.get(bytes([number])) for number in range(10)] == [None] * 7 + [7, 8, 9]


def test_in_a_flood_of_forged_claims_on_a_real_server_a_genuine_one_gets_through(
    postgres_server: str, template_database: str
) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))  # that of the served world
    sts = PatientSts(clock.now)
    with (
        sts.serving(),
        migrated_database(postgres_server, template_database) as database,
        served_world(database, **settings_of(sts)) as served,
    ):
        served.do(launched(served.world))
        statuses, seconds = asyncio.run(_flood(served.base_url, sts, clock))
    print(f"{statuses.total()} forged claims {statuses}; genuine ones after {seconds} s")
    assert max(seconds) < 5
    assert statuses[200] == 0
    assert sts.asked <= ADDRESSES * 30 + len(seconds)


async def _flood(
    url: str, sts: PatientSts, clock: VirtualClock
) -> tuple[Counter[int], list[float]]:
    statuses: Counter[int] = Counter()
    over = asyncio.Event()
    forger = Forger(sts, clock)

    async def forge(lane: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            number = 0
            while not over.is_set():
                number += 1
                names = f"i-{number:017x}" if number % 2 else None
                address = f"198.51.{lane}.{number % 4}"
                token = secrets.token_hex(32)
                answer = await claim(http, forger, token, address=address, names=names)
                statuses[answer.status_code] += 1

    async with asyncio.TaskGroup() as flood:
        for lane in range(8):
            flood.create_task(forge(lane))
        while statuses.total() < 500:  # noqa: ASYNC110 - until the flood is under way
            await asyncio.sleep(0.01)
        seconds = []
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            for _ in range(3):
                begun = time.monotonic()
                genuine = await claim(http, signer_of(sts, clock), names=INSTANCE)
                assert genuine.status_code == 200, genuine.text
                seconds.append(round(time.monotonic() - begun, 2))
        over.set()
    return statuses, seconds
