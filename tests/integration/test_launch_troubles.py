"""A fault of the deployment for which jobs wait is seen: an alert, `/readyz`, and then no more."""

from collections.abc import Awaitable, Callable

import pytest
import structlog
from structlog.typing import EventDict

from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.port import ComputeError, Misconfigured, NoCapacity
from shared.events.events import LaunchDelayed
from shared.runtime.service import Ports
from tests.integration.test_launcher import CONFIG, LAUNCH, requested
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

TROUBLES = "report_troubles"
SUBNETS = "check DOCKER_JOB_EC2_SUBNETS"


def bad_subnet(number: int = 1) -> ComputeError:
    return Misconfigured(f"InvalidSubnetID.NotFound: subnet-{number}", change=SUBNETS)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def look(stage: Stage) -> dict[str, str]:
    return dict((await stage.service.look()).degraded)


async def alerts(stage: Stage) -> list[EventDict]:
    """Run the sweep; return what it logs as an error."""
    with structlog.testing.capture_logs() as entries:
        await stage.sweep(TROUBLES)
    return [each for each in entries if each["log_level"] == "error"]


async def test_what_jobs_wait_for_is_published_alerted_and_named_by_readiness_until_it_is_mended(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.plan_errors.extend([bad_subnet(1), bad_subnet(2)])
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.to_change == SUBNETS
    (alert,) = await alerts(stage)
    assert alert["to_change"] == SUBNETS
    assert alert["launches"] == 1
    named = (await look(stage))["launches"]
    assert "1 job waits since 20" in named
    assert SUBNETS in named
    clock.advance(60)
    await stage.sweep(LAUNCH)  # refused again
    assert await alerts(stage) == []
    clock.advance(600)
    assert await stage.sweep(LAUNCH) is None
    with structlog.testing.capture_logs() as entries:
        await stage.sweep(TROUBLES)
    assert [each["event"] for each in entries] == ["no launch waits for this fault any more"]
    assert await look(stage) == {}


async def test_an_alert_comes_once_an_hour_of_whichever_replica(
    stage: Stage, ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.plan_errors.extend(bad_subnet() for _ in range(100))
    other = Stage(build(CONFIG, ports, cloud))
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    counts = []
    for _ in range(4):
        counts.append(len(await alerts(stage)) + len(await alerts(other)))
        clock.advance(1800)
    assert counts == [1, 0, 1, 0]


async def test_another_fault_is_published_and_alerted_at_once(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    other = Misconfigured("UnauthorizedOperation: no", change="allow it")
    cloud.plan_errors.extend([bad_subnet(), other])
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    assert len(await alerts(stage)) == 1
    clock.advance(10)
    await stage.sweep(LAUNCH)
    assert [each["to_change"] for each in await alerts(stage)] == ["allow it"]
    assert [each.to_change for each in await stage.published(LaunchDelayed)] == [
        SUBNETS,
        "allow it",
    ]


async def test_a_lack_of_capacity_is_no_fault_of_the_deployment(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    cloud.plan_errors.append(NoCapacity("none"))
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    assert await alerts(stage) == []
    assert await look(stage) == {}


async def test_a_fault_ends_no_wait_for_spot_and_fails_no_job(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.plan_errors.extend([bad_subnet(), bad_subnet()])
    await stage.deliver(requested(1, capacity="spot", spot_wait_seconds=1))
    for _ in range(2):
        await stage.sweep(LAUNCH)
        clock.advance(600)
    assert [row["state"] for row in await stage.rows("SELECT state FROM launches")] == ["wanted"]
