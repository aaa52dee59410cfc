"""Silence counts only while agents are answered, and an agent that calls beats the sweep."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.api.jobs import store as job_store
from shared.clock import VirtualClock
from shared.events.events import AttemptEnded
from shared.postgres.pool import Connection, connect
from tests.integration.test_api_identity import Signer, ec2, launched, sts
from tests.integration.test_api_identity import claim as claim_by_role
from tests.integration.test_api_outages import answer, beat, cause
from tests.integration.test_api_secrets import OTHER_KEY, SECRETS, keeping, rotated
from tests.integration.test_api_secrets import launched as launched_with
from tests.support.api.api_world import Agent, World
from tests.support.compute.aws_account import FakeSts, session_of

__all__ = ["ec2", "keeping", "sts"]  # fixtures too


async def settle(world: World) -> None:
    await world.stage.sweep("record_availability")
    await world.stage.sweep("end_silent")


async def outages(world: World) -> list[tuple[float, bool]]:
    """Return the seconds of each recorded outage, and whether it is one of claims alone."""
    rows = await world.stage.rows("SELECT * FROM outages ORDER BY ended_at, began_at")
    return [
        ((row["ended_at"] - row["began_at"]).total_seconds(), row["claims_only"]) for row in rows
    ]


# -- no agent is received


async def test_agents_that_are_all_silent_at_once_are_not_received_and_not_lost(
    world: World, clock: VirtualClock
) -> None:
    agents = [await world.running() for _ in range(3)]
    await settle(world)
    await answer(world, clock, 300)  # the load balancer is down, the API is not
    assert [await cause(world, each.job_id) for each in agents] == [None] * 3
    for each in agents:
        assert (await world.call_back(each, {"exit_code": 0})).status_code == 200
    await answer(world, clock, 4)
    assert await world.stage.published(AttemptEnded) != []
    assert {each.cause for each in await world.stage.published(AttemptEnded)} == {"done"}


async def test_of_agents_that_were_not_received_the_one_that_stays_silent_is_lost(
    world: World, clock: VirtualClock
) -> None:
    agents = [await world.running() for _ in range(2)]
    await settle(world)
    await answer(world, clock, 300)
    for _ in range(14):
        assert (await world.report(agents[0])).status_code == 200
        await answer(world, clock, 5)
    assert [await cause(world, each.job_id) for each in agents] == [None, "lost"]
    [(seconds, claims_only)] = await outages(world)
    assert 270 < seconds < 290
    assert not claims_only


async def test_agents_that_stay_silent_together_are_lost_after_a_bound(
    world: World, clock: VirtualClock
) -> None:
    agents = [await world.running() for _ in range(2)]
    await settle(world)
    await answer(world, clock, 600)
    assert [await cause(world, each.job_id) for each in agents] == [None, None]
    await answer(world, clock, 60)
    assert [await cause(world, each.job_id) for each in agents] == ["lost", "lost"]


async def test_one_silent_agent_among_others_is_lost_in_time(
    world: World, clock: VirtualClock
) -> None:
    agents = [await world.running() for _ in range(2)]
    await settle(world)
    for _ in range(16):
        await world.report(agents[0])
        await answer(world, clock, 4)
    assert [await cause(world, each.job_id) for each in agents] == [None, "lost"]
    assert await outages(world) == []


# -- calls fail for a fault of ours


async def test_while_the_calls_of_agents_fail_their_silence_does_not_count_in_any_replica(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await settle(world)
    other = world.again()
    await world.close_groups()
    for _ in range(30):
        assert (await world.report(agent)).status_code == 503
        await settle(world)
        await answer(other, clock, 10)
    assert await cause(world, agent.job_id) is None
    assert (await other.call_back(agent, {"exit_code": 0})).status_code == 200
    await answer(other, clock, 2)
    [(seconds, claims_only)] = await outages(world)
    assert 290 < seconds < 310
    assert not claims_only
    await other.close()


async def test_while_sts_is_away_the_boot_time_stands_still_and_the_silence_does_not(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    job_id = await launched(ec2)
    running = Agent(await launched(ec2, "i-00000000000000001"), 1, "cd" * 32)
    its_proof = Signer(sts, clock, session_of("i-00000000000000001")).proof(running.token)
    assert (await claim_by_role(ec2, its_proof, running.token)).status_code == 200
    await settle(ec2)
    sts.away = True
    for _ in range(95):
        assert (await claim_by_role(ec2, Signer(sts, clock).proof())).status_code == 503
        assert (await ec2.report(running)).status_code == 200
        await answer(ec2, clock, 10)
    assert await cause(ec2, job_id) is None
    sts.away = False
    assert (await claim_by_role(ec2, Signer(sts, clock).proof())).status_code == 200
    assert {claims_only for _, claims_only in await outages(ec2)} == {True}


async def test_while_the_key_of_its_secrets_is_missing_an_agent_that_claims_is_not_lost(
    keeping: World, clock: VirtualClock
) -> None:
    job_id = await launched_with(keeping, **SECRETS)
    without = await rotated(keeping, OTHER_KEY)
    await settle(without)
    for _ in range(95):
        assert (await without.claim(job_id)).status_code == 503
        await answer(keeping, clock, 10)  # the other replica, which receives no agent
    assert await cause(without, job_id) is None
    assert (await keeping.claim(job_id)).status_code == 200
    await without.close()


# -- what a report waits for


@pytest.fixture
async def admin(shared_database: str) -> AsyncIterator[Connection]:
    conn = await connect(shared_database)
    yield conn
    await conn.close()


async def waiting(world: World, count: int) -> None:
    """Return once *count* statements wait for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with world.ports.db.connection() as conn:
        while await conn.fetchval(query) < count:  # noqa: ASYNC110 - the event is Postgres's
            await asyncio.sleep(0)


@pytest.mark.parametrize("table", ["attempts", "jobs", "log_tails"])
async def test_while_a_table_of_reports_is_locked_nothing_is_recorded(
    world: World, clock: VirtualClock, admin: Connection, table: str
) -> None:
    await settle(world)
    async with admin.transaction():
        await admin.execute(f"LOCK TABLE api.{table} IN EXCLUSIVE MODE")
        record = asyncio.create_task(world.stage.sweep("record_availability"))
        await waiting(world, 1)
        clock.advance(75)
    await record
    await world.stage.sweep("record_availability")
    assert await outages(world) == [(75, False)]


# -- a call beats the sweep


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_result_that_waits_behind_the_sweep_is_kept(
    world: World, clock: VirtualClock, replicas: int
) -> None:
    agent = await world.running()
    receiving = world if replicas == 1 else world.again()
    clock.advance(61)
    async with world.ports.db.transaction() as tx:
        await job_store.lock_job(tx, agent.job_id)
        sweep = asyncio.create_task(world.stage.sweep("end_silent"))
        await waiting(world, 1)
        callback = asyncio.create_task(receiving.call_back(agent, {"exit_code": 0}))
        await waiting(world, 2)
    await sweep
    assert (await callback).status_code == 200
    assert await cause(world, agent.job_id) == "done"
    assert len(await world.stage.published(AttemptEnded)) == 1
    await receiving.close()


async def test_a_result_that_arrives_before_the_sweep_commits_is_kept(
    world: World, clock: VirtualClock, admin: Connection
) -> None:
    agent = await world.running()
    clock.advance(61)
    async with admin.transaction():
        await admin.execute("LOCK TABLE api.outbox IN SHARE MODE")
        sweep = asyncio.create_task(world.stage.sweep("end_silent"))
        await waiting(world, 1)  # it has decided, and saves
        callback = asyncio.create_task(world.call_back(agent, {"exit_code": 0}))
        await waiting(world, 2)
    await sweep
    assert (await callback).status_code == 200
    assert await cause(world, agent.job_id) == "done"


async def test_a_result_that_waits_while_the_maximum_lifetime_passes_is_kept(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    [row] = await world.stage.rows("SELECT dies_by FROM attempts")
    clock.advance((row["dies_by"] - clock.now()).total_seconds() - 1)
    await world.report(agent)
    clock.advance(2)
    async with world.ports.db.transaction() as tx:
        await job_store.lock_job(tx, agent.job_id)
        sweep = asyncio.create_task(world.stage.sweep("end_silent"))
        await waiting(world, 1)
        callback = asyncio.create_task(world.call_back(agent, {"exit_code": 0}))
        await waiting(world, 2)
    await asyncio.gather(sweep, callback)
    assert callback.result().status_code == 200
    assert await cause(world, agent.job_id) == "done"


async def test_a_claim_that_waits_behind_the_sweep_gets_its_job(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await world.deliver(world.launched(job_id))
    clock.advance(901)
    async with world.ports.db.transaction() as tx:
        await job_store.lock_job(tx, job_id)
        sweep = asyncio.create_task(world.stage.sweep("end_silent"))
        await waiting(world, 1)
        claim = asyncio.create_task(world.claim(job_id))
        await waiting(world, 2)
    await sweep
    assert (await claim).status_code == 200


# -- what users see


async def test_the_time_shown_for_an_interrupted_attempt_is_not_past_after_an_outage(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await beat(world, agent)
    await world.call_back(agent, {"schedule": ""})
    clock.advance(3600)
    await settle(world)
    shown = await world.stage.rows("SELECT waiting_until FROM attempts WHERE number = 1")
    assert shown[0]["waiting_until"] > clock.now()
