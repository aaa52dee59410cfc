"""Launches that a quota holds: their order, what is shown of them, and what holds them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.launcher.quotas import RETRY
from shared.clock import VirtualClock
from shared.compute.port import Unknown
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchesPaused, LaunchesResumed
from shared.runtime.service import Ports
from tests.integration.test_launcher_quotas import (
    LAUNCH,
    MIDNIGHT,
    START,
    a_stage,
    end,
    last_delay,
    requested,
    terminated,
    used,
    with_quotas,
)
from tests.support.compute.scripted_compute import ScriptedCompute


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


async def test_the_oldest_goes_on_first_however_often_it_was_tried(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1, hours=24), requested(2))
    await stage.sweep(LAUNCH)
    clock.advance(RETRY.total_seconds() / 2)
    await stage.deliver(requested(3))
    await stage.sweep(LAUNCH)
    clock.advance(RETRY.total_seconds() / 2)
    await stage.sweep(LAUNCH)  # the second is tried again, after the third
    for ended, oldest in ((1, 2), (2, 3)):
        await end(stage, cloud, ended)
        await stage.sweep(LAUNCH)
        assert [each.job_id for each in await stage.published(InstanceLaunched)][-1] == oldest


async def test_what_is_shown_of_a_held_launch_has_never_passed(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1, hours=24), requested(2))
    late = []
    for _ in range(60):
        await stage.sweep(LAUNCH)
        late.append(clock.now() - (await last_delay(stage)).next_try_at)
        clock.advance(60)
    published = len(await stage.published(LaunchDelayed))
    print(f"{published} delays published in an hour of 60 passes, at most {max(late)} late")
    assert max(late) < timedelta(0)
    assert published == 6


async def test_a_launch_held_on_the_next_day_too_shows_the_next_midnight(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.highest_price_usd = cloud.hourly_price_usd = 0.25
    stage = a_stage(ports, cloud, with_quotas(usd_per_day=3))
    await stage.deliver(requested(1, hours=24))
    await stage.sweep(LAUNCH)
    clock.advance(12 * 3600 - 30)
    await stage.deliver(requested(2, hours=4))
    await stage.sweep(LAUNCH)
    assert (await last_delay(stage)).next_try_at == MIDNIGHT
    clock.advance(30)
    await stage.sweep(LAUNCH)
    assert (await last_delay(stage)).next_try_at == MIDNIGHT + timedelta(days=1)


async def test_after_a_pause_the_quota_is_shown_again(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    await stage.deliver(requested(1, hours=24), requested(2))
    await stage.sweep(LAUNCH)
    clock.advance(590)
    until = clock.now() + timedelta(seconds=60)
    paused = LaunchesPaused(
        sequence=1, until=until, message="no boots", failures=5, trial_seconds=960
    )
    await stage.deliver(paused)
    clock.advance(20)
    await stage.sweep(LAUNCH)
    assert (await last_delay(stage)).message.startswith("no boots")
    await stage.deliver(LaunchesResumed(sequence=2))
    await stage.sweep(LAUNCH)
    assert (await last_delay(stage)).reason == "quota_reached"


async def test_what_was_spent_counts_before_an_overdue_end_is_recorded(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.highest_price_usd = cloud.hourly_price_usd = 1
    stage = a_stage(ports, cloud, with_quotas(usd_per_day=3))
    await stage.deliver(requested(1, hours=2))
    await stage.sweep(LAUNCH)
    clock.advance(2 * 3600 + 601)  # its time limit passed, and nothing has recorded an end yet
    await stage.deliver(requested(2, hours=2))
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in cloud.asked] == [1]
    assert "2.00 spent, 0.00 promised" in (await last_delay(stage)).message


async def test_a_launch_without_an_answer_counts_past_its_time_limit(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    """The cloud does not answer for longer than a short job may run: it may launch it yet."""
    stage = a_stage(ports, cloud, with_quotas(instances=1))
    cloud.refusals.append(Unknown("no answer"))
    await stage.deliver(requested(1, hours=0.1))
    await stage.sweep(LAUNCH)
    clock.advance(360 + 601)
    await stage.deliver(requested(2))
    await stage.sweep("ask_for_ends")
    cloud.refusals.append(Unknown("no answer"))
    await stage.sweep(LAUNCH)
    assert await used(stage) == (1, 2)
    assert {each.job_id for each in cloud.asked} == {1}
    clock.advance(120)
    await stage.sweep(LAUNCH)  # now it does
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == 1


@pytest.mark.parametrize("limits", [{"instances": 1}, {"vcpus": 2}, {"usd_per_day": 13}])
async def test_a_replacement_beside_an_interrupted_instance_goes_on_with_its_end(
    ports: Ports, cloud: ScriptedCompute, limits: dict[str, Any]
) -> None:
    """The instance before it takes the whole quota: the replacement waits for it, no longer."""
    cloud.highest_price_usd = cloud.hourly_price_usd = 1
    stage = a_stage(ports, cloud, with_quotas(**limits))
    await stage.deliver(requested(1, hours=24))
    await stage.sweep(LAUNCH)
    await stage.deliver(replace(requested(1, hours=24), attempt=2))
    await stage.sweep(LAUNCH)
    assert (await last_delay(stage)).attempt == 2
    [row] = await stage.rows("SELECT instance_id FROM charges")
    cloud.end(row["instance_id"])
    await stage.deliver(terminated(stage, 1, row["instance_id"]))
    await stage.sweep("release_held")
    await stage.sweep(LAUNCH)
    launched = [(each.job_id, each.attempt) for each in await stage.published(InstanceLaunched)]
    assert launched == [(1, 1), (1, 2)]
