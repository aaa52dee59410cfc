"""How far an attempt is in its phase: reported with heartbeats, shown while the phase lasts."""

import asyncio

import pytest

from services.api.jobs import store as job_store
from services.api.jobs import unit_of_work
from services.api.jobs.store import Owner
from shared.clock import VirtualClock
from tests.integration.test_api_agent_groups import busy, start_calls
from tests.integration.test_api_handlers import locked
from tests.integration.test_api_log_writes import counted
from tests.support.api.api_world import Agent, World, message_of

DETAIL = "pulling 340 of 1,200 MB, 5 of 9 layers"


async def a_pull(world: World) -> Agent:
    """Make an attempt that pulls its image, and its agent."""
    agent = await world.claimed((await world.post())["id"])
    assert (await world.report(agent, phase="pulling")).status_code == 200
    return agent


async def shown(world: World, job_id: int) -> list[str | None]:
    """Return the detail as `/status` and `/list` show it; they must agree."""
    job = await world.status(job_id)
    [listed] = [each for each in (await world.http.get("/list")).json() if each["id"] == job_id]
    assert listed["phase_detail"] == job["phase_detail"]
    return [job["phase_detail"], *(each["phase_detail"] for each in job["attempts"])]


async def test_a_detail_is_shown_while_its_phase_lasts(world: World) -> None:
    agent = await a_pull(world)
    assert await shown(world, agent.job_id) == [None, None]
    assert (await world.report(agent, detail=DETAIL)).status_code == 200
    assert await shown(world, agent.job_id) == [DETAIL, DETAIL]
    await world.report(agent)  # a heartbeat without one changes nothing
    await world.report(agent, phase="pulling")
    assert await shown(world, agent.job_id) == [DETAIL, DETAIL]
    await world.report(agent, phase="running")
    assert await shown(world, agent.job_id) == [None, None]


async def test_a_detail_ends_with_its_attempt(world: World) -> None:
    agent = await a_pull(world)
    await world.report(agent, detail=DETAIL)
    await world.call_back(agent, {"failed": "", "error_message": "no", "pull_failed": True})
    assert await shown(world, agent.job_id) == [None, None, None]


async def test_an_empty_detail_takes_the_last_one_back(world: World) -> None:
    agent = await a_pull(world)
    await world.report(agent, detail=DETAIL)
    await world.report(agent, detail="")
    assert await shown(world, agent.job_id) == [None, None]


async def test_a_detail_may_come_with_lines_and_with_a_phase_it_is_ignored(world: World) -> None:
    agent = await a_pull(world)
    await world.report(agent, detail=DETAIL, lines=["one"])
    assert await shown(world, agent.job_id) == [DETAIL, DETAIL]
    assert "one" in await world.logs(agent.job_id)
    await world.report(agent, detail="of another phase", phase="pulling")
    assert await shown(world, agent.job_id) == [DETAIL, DETAIL]
    await world.report(agent, detail="of another phase", phase="running")
    assert await shown(world, agent.job_id) == [None, None]


async def test_a_long_detail_is_cut_and_one_that_is_no_text_is_a_400(world: World) -> None:
    agent = await a_pull(world)
    await world.report(agent, detail="\0" + "é" * 300)
    assert await shown(world, agent.job_id) == ["\N{REPLACEMENT CHARACTER}" + "é" * 199] * 2
    refused = await world.report(agent, detail=7)
    assert refused.status_code == 400
    assert "detail" in message_of(refused)


async def test_a_detail_costs_the_one_write_of_its_heartbeat(
    world: World, clock: VirtualClock
) -> None:
    agent = await a_pull(world)
    before = await world.rows()
    clock.advance(5)
    await world.report(agent, detail=DETAIL)
    [attempt] = before["attempts"]
    attempt |= {"heartbeat_at": "2026-01-01T00:00:05+00:00", "phase_detail": DETAIL}
    assert await world.rows() == before
    async with world.ports.db.transaction() as tx:
        rows = await counted(tx.conn)
        await job_store.beat(tx, Owner(agent.job_id, 1), "pulling 345 of 1,200 MB, 5 of 9 layers")
        all_, in_place = (await counted(tx.conn))["attempts"]
    assert (all_ - rows["attempts"][0], in_place - rows["attempts"][1]) == (1, 1)


async def test_a_detail_that_comes_while_its_attempt_is_locked_waits_and_is_kept(
    world: World,
) -> None:
    agent = await a_pull(world)
    async with world.ports.db.transaction() as tx:
        await tx.conn.execute("SELECT FROM attempts FOR UPDATE")
        reported = asyncio.create_task(world.report(agent, detail=DETAIL))
        await locked(world)
    assert (await reported).status_code == 200
    assert await shown(world, agent.job_id) == [DETAIL, DETAIL]


async def test_a_detail_is_not_undone_by_a_fact_that_was_loaded_before_it(world: World) -> None:
    agent = await a_pull(world)
    async with world.ports.db.transaction() as tx:  # a handler that has loaded the attempt …
        loaded = await job_store.load_attempt(tx.conn, agent.job_id, 1)
        assert loaded is not None
        await world.report(agent, detail=DETAIL)
        await unit_of_work.save_attempt(tx, loaded)
    assert await shown(world, agent.job_id) == [DETAIL, DETAIL]


@pytest.mark.parametrize("phase", ["pulling", "running"])
async def test_calls_of_one_group_count_in_their_order(world: World, phase: str) -> None:
    agent = await a_pull(world)
    async with busy(world):
        tasks = await start_calls(
            world,
            world.report(agent, detail=DETAIL, lines=["one"]),
            world.report(agent, phase=phase, lines=["two"], seq=2),
        )
    assert [(await each).status_code for each in tasks] == [200, 200]
    expected = DETAIL if phase == "pulling" else None
    assert await shown(world, agent.job_id) == [expected, expected]
