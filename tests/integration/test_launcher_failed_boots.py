"""A launcher remembers where instances did not boot, and the next offers avoid that."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.avoided import Avoided
from shared.events.events import AttemptEnded, InstanceLaunched, LaunchesResumed
from shared.runtime.service import Ports
from tests.integration.test_ec2_launcher import CONFIG as ON_EC2
from tests.integration.test_launcher_pauses import CONFIG, LAUNCH, requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage
from tests.support.rows.messages import wrapped


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none")
    yield world
    await world.close()


def did_not_boot(
    stage: Stage, job_id: int, *, boot_failed: bool = True, account_fault: bool = False
) -> AttemptEnded:
    now = stage.ports.clock.now()
    return AttemptEnded(
        job_id=job_id,
        attempt=1,
        cause="lost",
        ended_at=now,
        terminate_after=now,
        boot_failed=boot_failed,
        account_fault=account_fault,
    )


async def test_the_next_offers_of_any_replica_avoid_the_pool_for_a_while(
    ports: Ports, clock: VirtualClock
) -> None:
    cloud = ScriptedCompute(clock)
    stage = Stage(build(CONFIG, ports, cloud))
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    await stage.deliver(did_not_boot(stage, 1), requested(2))
    replica = Stage(build(CONFIG, ports, cloud))
    await replica.sweep(LAUNCH)
    assert list(cloud.offers[-1].avoid) == [Avoided(instance_type="m7g.large", zone="zone-a")]
    clock.advance(timedelta(minutes=15).total_seconds())
    await stage.deliver(requested(3))
    await stage.sweep(LAUNCH)
    assert not cloud.offers[-1].avoid


async def test_another_end_or_an_unknown_launch_avoids_nothing(
    ports: Ports, clock: VirtualClock
) -> None:
    cloud = ScriptedCompute(clock)
    stage = Stage(build(CONFIG, ports, cloud))
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    await stage.deliver(did_not_boot(stage, 1, boot_failed=False), did_not_boot(stage, 7))
    await stage.deliver(requested(2))
    await stage.sweep(LAUNCH)
    assert not cloud.offers[-1].avoid


async def test_a_fault_of_the_account_that_the_cloud_names_avoids_no_pool(
    ports: Ports, clock: VirtualClock
) -> None:
    cloud = ScriptedCompute(clock)
    stage = Stage(build(CONFIG, ports, cloud))
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    await stage.deliver(did_not_boot(stage, 1, account_fault=True), requested(2))
    await stage.sweep(LAUNCH)
    assert not cloud.offers[-1].avoid


async def test_a_boot_after_a_pause_ends_what_is_avoided_but_for_later_failures(
    ports: Ports, clock: VirtualClock
) -> None:
    cloud = ScriptedCompute(clock)
    stage = Stage(build(CONFIG, ports, cloud))
    await stage.deliver(*(requested(each) for each in (1, 2, 3)))
    await stage.sweep(LAUNCH)
    await stage.deliver(*(did_not_boot(stage, each) for each in (1, 2)))
    assert await marks_of(stage) == [1, 2]
    clock.advance(60)
    resumed = wrapped(LaunchesResumed(sequence=2), at=clock.now())
    clock.advance(60)
    await stage.deliver(did_not_boot(stage, 3))
    await stage.service.inbox.apply([resumed])
    assert await marks_of(stage) == [3]


async def test_a_bad_zone_of_the_strict_ec2_gets_no_further_instance_while_another_boots(
    ports: Ports, world: Ec2World
) -> None:
    """The cheapest pool has capacity for ever, though nothing boots there."""
    stage = Stage(build(ON_EC2, ports, world.adapter(settings=SETTINGS)))
    places = []
    for job_id in range(1, 7):
        await stage.deliver(requested(job_id))
        await stage.sweep(LAUNCH)
        latest = (await stage.published(InstanceLaunched))[-1]
        assert latest.job_id == job_id
        places.append((latest.instance_type, latest.zone))
        if latest.zone == places[0][1]:
            await stage.deliver(did_not_boot(stage, job_id))
    bad = places[0][1]
    assert [zone for _, zone in places].count(bad) <= 2
    assert {zone for _, zone in places[2:]}.isdisjoint({bad})


async def test_where_nothing_boots_launches_go_on(ports: Ports, world: Ec2World) -> None:
    stage = Stage(build(ON_EC2, ports, world.adapter(settings=SETTINGS)))
    for job_id in range(1, 11):
        await stage.deliver(requested(job_id))
        await stage.sweep(LAUNCH)
        await stage.deliver(did_not_boot(stage, job_id))
    assert len(await stage.published(InstanceLaunched)) == 10


async def marks_of(stage: Stage) -> list[int]:
    rows = await stage.rows("SELECT job_id FROM failed_boots ORDER BY 1")
    return [each["job_id"] for each in rows]
