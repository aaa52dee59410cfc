"""The reaper on a real database, about instances that lists do not show.

The cloud's NotFound is not certain here, as EC2's is not.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.clock import VirtualClock
from shared.compute.port import InstanceState, Unknown
from shared.crash_points import WatchedPoints
from shared.events.events import InstanceTerminated
from shared.runtime.service import Ports
from tests.integration.test_reaper import (
    CONFIRM,
    TERMINATE,
    WATCH,
    after,
    ended,
    launched,
    states,
    watch_for,
)
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Crash, Stage, crashing

CONFIG = ReaperConfig(batch=10, prune_batch=10)
NOT_FOUND = CONFIG.not_found_seconds


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    cloud = ScriptedCompute(clock)
    cloud.not_found_is_final = False
    return cloud


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def test_not_found_ends_an_instance_once_it_was_the_answer_for_longer_than_an_hour(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.invisible.add("i-1")
    await stage.deliver(launched(), ended())
    await watch_for(stage, clock, NOT_FOUND)
    assert await states(stage) == {"i-1": "ending"}
    assert await stage.published(InstanceTerminated) == []
    assert len(cloud.terminated) > 100  # repeated all the time
    assert len(cloud.confirmed) < NOT_FOUND / 25
    await watch_for(stage, clock, 35)
    (end,) = await stage.published(InstanceTerminated)
    assert (end.cause, end.cost_usd) == ("done", None)


async def test_the_time_without_answers_does_not_count(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(launched())
    await watch_for(stage, clock, NOT_FOUND / 2)
    cloud.confirm_error = Unknown("timeout")
    await watch_for(stage, clock, NOT_FOUND)
    cloud.confirm_error = None
    await watch_for(stage, clock, NOT_FOUND / 2 - 120)
    assert await states(stage) == {"i-1": "running"}
    await watch_for(stage, clock, 120)
    assert await states(stage) == {"i-1": "terminated"}


async def test_one_answer_that_it_runs_starts_the_count_again(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    shown = cloud.show("i-1")
    cloud.invisible.add("i-1")
    await stage.deliver(launched())
    await watch_for(stage, clock, NOT_FOUND - 60)
    cloud.shown_by_id["i-1"] = shown
    await watch_for(stage, clock, 60)
    cloud.shown_by_id.clear()
    await watch_for(stage, clock, NOT_FOUND - 60)
    assert await states(stage) == {"i-1": "running"}


async def test_what_lists_show_again_is_asked_for_no_more_and_starts_the_count_again(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.invisible.add("i-1")
    await stage.deliver(replace(launched(), dies_by=after(86_400)))
    await watch_for(stage, clock, NOT_FOUND - 60)
    cloud.invisible.clear()
    await watch_for(stage, clock, 5)
    asked = len(cloud.confirmed)
    await watch_for(stage, clock, 300)
    assert len(cloud.confirmed) == asked
    cloud.invisible.add("i-1")
    await watch_for(stage, clock, NOT_FOUND - 60)
    assert await states(stage) == {"i-1": "running"}
    assert cloud.terminated == []


async def test_a_list_that_shows_it_while_the_question_is_on_its_way_outweighs_the_answer(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock, points: WatchedPoints
) -> None:
    cloud.not_found_is_final = True
    stage = Stage(build(CONFIG, ports, cloud))
    await stage.deliver(launched())
    await watch_for(stage, clock, 60)
    clock.advance(60)
    await stage.sweep(WATCH)
    cloud.answering.clear()
    asking = asyncio.create_task(stage.sweep(CONFIRM))
    await points.wait_for("reaper.asking")
    cloud.show("i-1")
    cloud.invisible.add("i-1")  # by its id
    shown, cloud.invisible = cloud.invisible, set()
    await stage.sweep(WATCH)
    cloud.invisible = shown
    cloud.answering.set()
    await asking
    assert await states(stage) == {"i-1": "running"}


async def test_an_answer_of_terminated_ends_it_at_once_with_its_cause(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    over = cloud.instances.pop("i-1")
    assert over.state is InstanceState.TERMINATED
    cloud.shown_by_id["i-1"] = over
    await stage.deliver(launched())
    await watch_for(stage, clock, 5)
    (end,) = await stage.published(InstanceTerminated)
    assert end.cause == "Client.InstanceInitiatedShutdown"


@pytest.mark.parametrize("point", ["reaper.asking", "reaper.answered"])
async def test_a_crash_before_the_answer_is_recorded_is_made_good_by_the_next_question(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock, point: str
) -> None:
    cloud.show("i-1")
    cloud.end("i-1")
    cloud.shown_by_id["i-1"] = cloud.instances.pop("i-1")
    await stage.deliver(launched())
    clock.advance(5)
    await stage.sweep(WATCH)
    doomed = Stage(build(CONFIG, crashing(ports, point), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(CONFIRM)
    assert await states(stage) == {"i-1": "running"}
    await watch_for(stage, clock, CONFIG.ask_seconds)
    assert len(await stage.published(InstanceTerminated)) == 1


async def test_replicas_that_ask_at_once_publish_each_end_once(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    one, two = (Stage(build(CONFIG, ports, cloud)) for _ in range(2))
    for number in range(1, 26):
        cloud.show(f"i-{number}", number)
        cloud.end(f"i-{number}")
        cloud.shown_by_id[f"i-{number}"] = cloud.instances.pop(f"i-{number}")
        await one.deliver(launched(number))
    for _ in range(6):
        clock.advance(5)
        names = (WATCH, CONFIRM, TERMINATE)
        await asyncio.gather(*(stage.sweep(name) for stage in (one, two) for name in names))
    published = [each.instance_id for each in await one.published(InstanceTerminated)]
    assert sorted(published) == sorted(f"i-{number}" for number in range(1, 26))
