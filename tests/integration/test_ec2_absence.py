"""An instance that EC2's lists do not show: it is over once EC2 confirms it by its id, no sooner.

The cloud's own register is the witness of what runs: while a container may run, no end is
published, since an end lets the job's next container start.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.backoff import Backoff
from shared.clock import RealClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.port import Instance, InstanceState, NotFound
from shared.events.events import AttemptEnded, InstanceTerminated, InstanceUnconfirmed
from shared.runtime.service import Ports
from tests.integration.test_ec2_reaper import launch_events, launched
from tests.support.compute.compute_adapters import eventually
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import AGENT, REGION, SETTINGS, Ec2World
from tests.support.compute.stage import Stage

CONFIG = ReaperConfig(
    confirm=Backoff(first=0.02, factor=2, longest=0.2),
    lease_seconds=0.2,
    orphan_seconds=60,
    visibility_seconds=0.3,
    ask_seconds=0.05,
    not_found_seconds=3,
)
SWEEPS = ("terminate_ending", "watch_instances", "confirm_missing")


class Later(RealClock):
    """The real clock, some time ahead."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self._ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", terminated_tags_seconds=0.0)
    yield world
    await world.close()


@pytest.fixture
def compute(world: Ec2World) -> Ec2Compute:
    return world.adapter()


@pytest.fixture
def stage(ports: Ports, compute: Ec2Compute) -> Stage:
    return Stage(build(CONFIG, ports, compute))


async def sweep(stage: Stage) -> None:
    for name in SWEEPS:
        await stage.sweep(name)


async def watch_for(stage: Stage, seconds: float) -> None:
    """Sweep without end for *seconds*."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)

    async def over() -> bool:
        await sweep(stage)
        return datetime.now(UTC) >= until

    await eventually(over)


async def end_attempt(stage: Stage, world: Ec2World) -> None:
    """End the attempt of job 1: its agent is silent, and its next attempt is held."""
    now = datetime.now(UTC)
    await stage.deliver(
        AttemptEnded(job_id=1, attempt=1, cause="lost", ended_at=now, terminate_after=now)
    )
    world.cloud.control.ignore_terminations(10_000)  # its container stops for nothing


async def published(stage: Stage) -> list[InstanceTerminated]:
    return await stage.published(InstanceTerminated)


async def until_published(stage: Stage) -> InstanceTerminated:
    async def over() -> bool:
        await sweep(stage)
        return bool(await published(stage))

    await eventually(over)
    (end,) = await published(stage)
    return end


@pytest.mark.parametrize("by_id", [False, True])
async def test_while_an_instance_runs_that_no_list_shows_no_end_of_it_is_published(
    compute: Ec2Compute, stage: Stage, world: Ec2World, *, by_id: bool
) -> None:
    """By its id EC2 shows it; or only its Spot request shows that it runs."""
    [instance] = await launched(compute, 1)
    await stage.deliver(*launch_events([instance]))
    world.cloud.control.hide(instance.instance_id, by_id=by_id)
    await end_attempt(stage, world)
    await watch_for(stage, CONFIG.not_found_seconds + 5 * CONFIG.visibility_seconds)
    assert world.cloud.control.running() == [instance.instance_id]
    assert await published(stage) == []
    world.cloud.control.ignore_terminations(0)
    world.cloud.control.reveal()
    assert (await until_published(stage)).cause == "lost"
    assert world.cloud.control.running() == []


async def test_an_instance_that_is_not_found_at_all_ends_after_the_whole_time_and_no_sooner(
    compute: Ec2Compute, stage: Stage, world: Ec2World
) -> None:
    [instance] = await launched(compute, 1)
    await stage.deliver(*launch_events([instance]))
    world.cloud.control.hide(instance.instance_id, by_id=True, request=True)
    started = datetime.now(UTC)
    end = await until_published(stage)
    assert datetime.now(UTC) - started >= timedelta(seconds=CONFIG.not_found_seconds)
    assert (end.cause, end.cost_usd) == ("vanished", None)
    assert world.cloud.control.running() == [instance.instance_id]
    world.cloud.control.reveal()  # the proof was wrong: it is ended, and not published again

    async def over() -> bool:
        await sweep(stage)
        return world.cloud.control.running() == []

    await eventually(over)
    assert len(await published(stage)) == 1


async def test_a_failed_answer_is_no_answer(
    compute: Ec2Compute, stage: Stage, world: Ec2World
) -> None:
    [instance] = await launched(compute, 1)
    await stage.deliver(*launch_events([instance]))
    world.cloud.control.hide(instance.instance_id, by_id=True, request=True)
    await sweep(stage)
    await sweep(stage)
    world.cloud.control.fail("DescribeInstances", code="InternalError", status=500, times=10**6)
    await watch_for(stage, CONFIG.not_found_seconds + 1)
    assert await published(stage) == []


async def test_a_terminated_instance_without_its_tags_is_confirmed_by_its_id(
    compute: Ec2Compute, stage: Stage, world: Ec2World
) -> None:
    """EC2 takes the tags off it, and the list is by the deployment's tag."""
    [instance] = await launched(compute, 1)
    await stage.deliver(*launch_events([instance]))
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    ec2.terminate_instances(InstanceIds=[instance.instance_id])

    async def unlisted() -> bool:
        return instance.instance_id not in [
            each.instance_id for each in await compute.list_instances()
        ]

    await eventually(unlisted)
    end = await until_published(stage)
    assert (end.cause, end.billed_seconds) == ("Client.UserInitiatedShutdown", 60)
    assert end.cost_lines is not None
    assert end.cost_lines.instance_usd is not None


async def test_each_of_many_ids_gets_its_own_answer(world: Ec2World) -> None:
    compute = world.adapter()
    shown, hidden, other = await launched(compute, 3)
    world.cloud.control.hide(shown.instance_id)
    world.cloud.control.hide(hidden.instance_id, by_id=True, request=True)
    await compute.terminate([other.instance_id])
    unknown, malformed, foreign = "i-0123456789abcdef0", "i-01", "p-0123456789abcdef0"
    ids = [shown.instance_id, hidden.instance_id, other.instance_id, unknown, malformed, foreign]

    async def over() -> bool:
        found = (await compute.confirm(ids))[other.instance_id]
        return isinstance(found, Instance) and found.state is InstanceState.TERMINATED

    await eventually(over)
    found = await compute.confirm(ids)
    assert isinstance(found[shown.instance_id], Instance)
    for each in (hidden.instance_id, unknown, malformed, foreign):
        assert found[each] == NotFound(final=False)


@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0.0, InstanceState.STOPPING), (310.0, InstanceState.TERMINATED)],
)
async def test_a_spot_request_s_status_of_an_end_is_a_proof_once_the_notice_has_passed(
    world: Ec2World, ahead: float, state: InstanceState
) -> None:
    """`instance-terminated-no-capacity` comes with the notice, while the container still runs."""
    compute = Ec2Compute(REGION, "test", Later(timedelta(seconds=ahead)), AGENT, SETTINGS)
    [instance] = await launched(world.adapter(), 1)
    world.cloud.control.interrupt(instance.instance_id)
    world.cloud.control.hide(instance.instance_id, by_id=True)
    found = (await compute.confirm([instance.instance_id]))[instance.instance_id]
    assert isinstance(found, Instance)
    assert (found.state, found.spot_interrupted) == (state, state is InstanceState.TERMINATED)
    if state is InstanceState.TERMINATED:
        assert found.terminated_at is not None
        assert found.terminated_at - instance.launched_at >= timedelta(seconds=119)


async def canceled_and_ended(world: Ec2World) -> Instance:
    """Launch an instance; cancel its request; end it, and let EC2 forget it by its id."""
    [instance] = await launched(world.adapter(), 1)
    await world.adapter().terminate([instance.instance_id])
    world.cloud.control.hide(instance.instance_id, by_id=True)
    return instance


@pytest.fixture
async def keeping() -> AsyncIterator[Ec2World]:
    """A cloud that keeps the status of a cancelled request after its instance's end."""
    world = Ec2World(FakeApi(), boot="none", cancelled_status_stays=True)
    yield world
    await world.close()


@pytest.mark.parametrize("ahead", [0.0, 310.0])
async def test_that_a_cancelled_request_s_instance_runs_is_believed_for_minutes_and_no_longer(
    keeping: Ec2World, ahead: float
) -> None:
    compute = Ec2Compute(REGION, "test", Later(timedelta(seconds=ahead)), AGENT, SETTINGS)
    instance_id = (await canceled_and_ended(keeping)).instance_id
    found = (await compute.confirm([instance_id]))[instance_id]
    if ahead:
        assert found == NotFound(final=False)
    else:
        assert isinstance(found, Instance)
        assert (found.state, found.state_reason) == (
            InstanceState.RUNNING,
            "request-canceled-and-instance-running",
        )


async def test_an_active_request_shows_for_ever_that_its_instance_runs(world: Ec2World) -> None:
    compute = Ec2Compute(REGION, "test", Later(timedelta(hours=9)), AGENT, SETTINGS)
    [instance] = await launched(world.adapter(), 1)
    world.cloud.control.hide(instance.instance_id, by_id=True)
    found = (await compute.confirm([instance.instance_id]))[instance.instance_id]
    assert isinstance(found, Instance)
    assert found.state is InstanceState.RUNNING


async def test_the_end_of_an_instance_whose_cancelled_request_seems_to_run_is_assumed_in_time(
    ports: Ports, keeping: Ec2World
) -> None:
    compute = Ec2Compute(REGION, "test", Later(timedelta(seconds=310)), AGENT, SETTINGS)
    stage = Stage(build(CONFIG, ports, compute))
    instance = await canceled_and_ended(keeping)
    await stage.deliver(*launch_events([instance]))
    await end_attempt(stage, keeping)
    assert (await until_published(stage)).cause == "lost"
    waiting = await stage.published(InstanceUnconfirmed)
    assert [each.instance_id for each in waiting] == [instance.instance_id]
