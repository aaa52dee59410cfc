"""A call of the reaper that the deployment's account forbids: alerts, `/readyz`, then no more."""

from collections.abc import Awaitable, Callable

import pytest
import structlog
from structlog.typing import EventDict

from services.reaper.service import build
from shared.clock import VirtualClock
from shared.compute.port import Misconfigured, Throttled, Unknown
from shared.events.events import InstanceTerminated
from shared.runtime.service import Ports
from tests.integration.test_reaper import CONFIG, TERMINATE, WATCH, ended, launched, reported
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

FORBIDDEN = Misconfigured("UnauthorizedOperation: not allowed", change="docs/iam/reaper.json")


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def look(stage: Stage) -> dict[str, str]:
    return dict((await stage.service.look()).degraded)


async def alerts(stage: Stage, sweep: str) -> list[EventDict]:
    with structlog.testing.capture_logs() as entries:
        await stage.sweep(sweep)
    return [each for each in entries if each["log_level"] == "error"]


async def test_an_instance_that_may_not_be_terminated_is_alerted_and_named_until_it_may(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched())
    clock.advance(90)
    await stage.deliver(ended())
    cloud.terminate_error = FORBIDDEN
    (alert,) = await alerts(stage, TERMINATE)
    assert alert["to_change"] == "docs/iam/reaper.json"
    named = (await look(stage))["terminate"]
    assert named.startswith("instances cannot be terminated, and cost money, since 20")
    assert "docs/iam/reaper.json" in named
    again = 0
    for _ in range(250):  # an hour and two minutes
        clock.advance(15)
        again += len(await alerts(stage, TERMINATE))
    assert again == 1
    assert " since " in (await look(stage))["terminate"]
    cloud.terminate_error = None
    clock.advance(15)
    await stage.sweep(TERMINATE)
    assert len(await stage.published(InstanceTerminated)) == 1
    clock.advance(121)
    assert await look(stage) == {}


async def test_one_that_may_not_be_terminated_keeps_no_other_alive(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    for number in (1, 2, 3):
        cloud.show(f"i-{number}")
        await stage.deliver(launched(number), ended(number))
    clock.advance(90)
    cloud.refuses_to_end, cloud.end_refusal = {"i-2"}, FORBIDDEN
    assert len(await alerts(stage, TERMINATE)) == 1
    over = await stage.published(InstanceTerminated)
    assert {each.instance_id for each in over} == {"i-1", "i-3"}
    assert set(await look(stage)) == {"terminate"}


async def test_a_list_that_is_forbidden_is_named_and_one_that_is_throttled_is_not(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(reported(3000, 0))
    cloud.list_error = Throttled("slow down")
    assert await alerts(stage, WATCH) == []
    assert await look(stage) == {}
    expired = Unknown("RequestExpired (renew the credentials)")
    expired.change = "renew the credentials"
    cloud.list_error = expired
    assert len(await alerts(stage, WATCH)) == 1
    clock.advance(5)
    assert await alerts(stage, WATCH) == []
    assert set(await look(stage)) == {"list"}
    cloud.list_error = None
    clock.advance(130)
    await stage.sweep(WATCH)
    cloud.list_error = FORBIDDEN
    assert len(await alerts(stage, WATCH)) == 1, "it begins anew"
