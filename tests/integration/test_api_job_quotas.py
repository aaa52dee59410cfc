"""Quotas of live jobs: decided in the transaction that writes, and shown with the launcher's."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from services.api.keys import commands as key_commands
from shared.clock import VirtualClock
from shared.events.events import LaunchDelayed, QuotasReported
from shared.events.quotas import KeyUse, Limits, Use
from tests.support.api.api_world import World

JOB = {"docker_image": "alpine", "scheduled_for": "now"}
REACHED = (
    "the deployment has 2 of 2 live jobs: wait until some are CANCELLED, DONE, FAILED, or cancel "
    "some (DOCKER_JOB_QUOTA_JOBS)"
)


async def a_key(world: World, scope: str = "submit", name: str = "ci") -> dict[str, str]:
    printed: list[str] = []
    command = key_commands.parser().parse_args(["create", "--name", name, "--scope", scope])
    assert await key_commands.run(world.ports.db, command, printed.append) == 0
    return {"Authorization": f"Bearer {printed[0]}"}


def prefix_of(key: dict[str, str]) -> str:
    return key["Authorization"].split("_")[1]


@pytest.fixture
async def two_jobs(world: World) -> AsyncIterator[World]:
    limited = world.again(QUOTA_JOBS="2")
    yield limited
    await limited.close()


async def test_a_submission_over_the_quota_is_refused_with_the_reason(two_jobs: World) -> None:
    first, _ = await two_jobs.post(), await two_jobs.post()
    refused = await two_jobs.http.post("/schedule", json=JOB)
    assert (refused.status_code, refused.json()["message"]) == (429, REACHED)
    assert "Retry-After" not in refused.headers
    rerun = await two_jobs.http.post(f"/jobs/{first['id']}/rerun")
    assert rerun.status_code == 429
    await two_jobs.cancel(first["id"])
    await two_jobs.post()


async def test_an_array_is_accepted_or_refused_as_a_whole(two_jobs: World) -> None:
    await two_jobs.post()
    refused = await two_jobs.http.post("/schedule", json=[JOB, JOB])
    assert refused.status_code == 429
    assert "1 of 2 live jobs, and 2 more were asked for, of which none" in refused.json()["message"]
    refused = await two_jobs.http.post("/schedule", json=[JOB] * 3)  # waiting would not help
    assert (refused.status_code, refused.json()["message"]) == (
        429,
        "the deployment may have 2 live jobs, and 3 were asked for at once (DOCKER_JOB_QUOTA_JOBS)",
    )
    assert len((await two_jobs.http.get("/list")).json()) == 1


async def test_a_repeated_key_gets_its_answer_and_a_refused_one_is_not_kept(
    two_jobs: World,
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await two_jobs.http.post("/schedule", json=JOB, headers=headers)
    second = await two_jobs.post()
    again = await two_jobs.http.post("/schedule", json=JOB, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    other = {"Idempotency-Key": "two"}
    assert (await two_jobs.http.post("/schedule", json=JOB, headers=other)).status_code == 429
    await two_jobs.cancel(second["id"])
    assert (await two_jobs.http.post("/schedule", json=JOB, headers=other)).status_code == 201


async def test_a_burst_over_processes_is_accepted_up_to_the_quota_exactly(world: World) -> None:
    """300 requests at once, of two processes, one third with an Idempotency-Key."""
    replicas = [world.again(QUOTA_JOBS="100") for _ in range(2)]

    async def post(number: int) -> httpx.Response:
        headers = {} if number % 3 else {"Idempotency-Key": f"key-{number}"}
        return await replicas[number % 2].http.post("/schedule", json=JOB, headers=headers)

    answers = Counter(
        each.status_code for each in await asyncio.gather(*(post(each) for each in range(300)))
    )
    print(f"{answers[201]} of 300 accepted, {answers[429]} refused, quota 100")
    assert answers == {201: 100, 429: 200}
    async with world.ports.db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM jobs") == 100
    for each in replicas:
        await each.close()


async def test_a_key_over_its_quota_fails_no_other_of_its_group(
    world: World, clock: VirtualClock
) -> None:
    limited = world.again(KEY_QUOTA_JOBS="5")
    keys = [await a_key(world), await a_key(world)]
    clock.advance(10)

    async def post(number: int) -> int:
        headers = keys[1 if number % 10 == 0 else 0]
        return (await limited.http.post("/schedule", json=JOB, headers=headers)).status_code

    answers = await asyncio.gather(*(post(each) for each in range(50)))
    assert Counter(answers[0::10]) == {201: 5}
    assert Counter(answers) == {201: 10, 429: 40}
    refused = await limited.http.post("/schedule", json=JOB, headers=keys[0])
    assert refused.json()["message"].startswith(
        f"API key {prefix_of(keys[0])} has 5 of 5 live jobs: wait"
    )
    await limited.close()


async def test_quotas_are_shown_to_a_key_its_own_and_to_an_admin_all(
    world: World, clock: VirtualClock
) -> None:
    limited = world.again(QUOTA_JOBS="9", KEY_QUOTA_JOBS="5")
    reader, admin = await a_key(world), await a_key(world, "admin", "root")
    clock.advance(10)
    await limited.http.post("/schedule", json=[JOB, JOB], headers=reader)
    used = Use(instances=3, vcpus=6, spent_usd=1.5, promised_usd=2.25)
    own = KeyUse(key=prefix_of(reader), instances=1, vcpus=2, promised_usd=0.5)
    limits, at = Limits(instances=10, usd_per_day=50), clock.now()
    for sequence, use in ((2, used), (1, Use())):  # in any order
        report = QuotasReported(
            sequence=sequence,
            reported_at=at,
            limits=limits,
            key_limits=Limits(vcpus=4),
            used=use,
            keys=(own,),
        )
        await limited.stage.deliver(report)
    shown = (await limited.http.get("/quotas", headers=reader)).json()
    assert shown["deployment"] is None
    [mine] = shown["keys"]
    assert (mine["key"], mine["name"]) == (prefix_of(reader), "ci")
    assert mine["jobs"] == {"used": 2, "limit": 5}
    assert mine["vcpus"] == {"used": 2, "limit": 4}
    all_of_it = (await limited.http.get("/quotas", headers=admin)).json()
    assert all_of_it["deployment"] == {
        "jobs": {"used": 2, "limit": 9},
        "instances": {"used": 3, "limit": 10},
        "vcpus": {"used": 6, "limit": None},
        "usd_per_day": {"used": 3.75, "limit": 50.0, "spent": 1.5, "promised": 2.25},
    }
    assert [each["key"] for each in all_of_it["keys"]] == [prefix_of(reader)]
    await limited.close()


async def test_of_two_delays_the_later_one_is_shown_whenever_its_next_try_is(world: World) -> None:
    """A launch that waited for midnight may wait for capacity sooner than that."""
    job = await world.post()
    at = world.clock.now()

    def delay(minute: int, message: str, next_hour: int) -> LaunchDelayed:
        return LaunchDelayed(
            job_id=job["id"],
            attempt=1,
            reason="quota_reached",
            message=message,
            next_try_at=at.replace(hour=next_hour),
            delayed_at=at.replace(minute=minute),
        )

    await world.stage.deliver(delay(1, "50 USD a day are spent", 23), delay(2, "no capacity", 12))
    assert (await world.status(job["id"]))["waiting_because"] == "no capacity"
    await world.stage.deliver(delay(1, "50 USD a day are spent", 23))
    assert (await world.status(job["id"]))["waiting_because"] == "no capacity"
