"""Boots that fail on the strict EC2: what the reaper publishes of them, by each way to fail."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import boto3
import pytest
from msgspec.structs import replace

from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.backoff import Backoff
from shared.clock import RealClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.port import Instance, InstanceState, Rejected
from shared.console_text import NOTE, is_console
from shared.events.events import AttemptEnded, InstanceLaunched, InstanceTerminated
from shared.runtime.service import Ports
from tests.support.compute.compute_adapters import eventually, launch_one, request_for, until_state
from tests.support.compute.compute_api import FakeApi, serve
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World
from tests.support.compute.stage import Stage

QUICK = Backoff(first=0.02, factor=2, longest=0.2)
CONFIG = ReaperConfig(
    confirm=QUICK, visibility_seconds=5, console_reads=QUICK, console_tries=10_000
)
XEN = replace(SETTINGS, instance_types=("m4.large",))
TERMINATE = "terminate_ending"
WATCH = "watch_instances"


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        yield api


@pytest.fixture
async def world(api: FakeApi) -> AsyncIterator[Ec2World]:
    world = Ec2World(api)
    yield world
    await world.close()


@pytest.fixture
async def slow(api: FakeApi) -> AsyncIterator[Ec2World]:
    """A cloud that posts a console three real seconds after the end."""
    world = Ec2World(api, console_posted_after_seconds=600.0)
    yield world
    await world.close()


@pytest.fixture
def stage(ports: Ports, world: Ec2World) -> Stage:
    return Stage(build(CONFIG, ports, world.adapter()))


def launched(instance: Instance) -> InstanceLaunched:
    return InstanceLaunched(
        job_id=1,
        attempt=1,
        launch_token=instance.launch_token,
        instance_id=instance.instance_id,
        instance_type=instance.instance_type,
        zone=instance.zone,
        market=instance.market,
        hourly_price_usd=instance.hourly_price_usd,
        launched_at=instance.launched_at,
        dies_by=instance.launched_at + timedelta(hours=1),
        launch_sequence=1,
    )


def boot_failed(stage: Stage) -> AttemptEnded:
    now = stage.ports.clock.now()
    return AttemptEnded(
        job_id=1, attempt=1, cause="lost", ended_at=now, terminate_after=now, boot_failed=True
    )


async def until_printed(world: Ec2World, text: str) -> None:
    async def printed() -> bool:
        return any(text in each["console"] for each in world.cloud.control.instances())

    await eventually(printed)


async def end_of(stage: Stage) -> InstanceTerminated:
    """Sweep until the end of the instance is published; return it."""

    async def over() -> bool:
        await stage.sweep(TERMINATE)
        await stage.sweep(WATCH)
        return bool(await stage.published(InstanceTerminated))

    await eventually(over)
    return (await stage.published(InstanceTerminated))[0]


async def console_of(stage: Stage) -> str:
    """Sweep until a console is published; return it."""

    async def posted() -> bool:
        await stage.sweep("read_consoles")
        return is_console((await stage.published(InstanceTerminated))[-1].console_output)

    await eventually(posted)
    return (await stage.published(InstanceTerminated))[-1].console_output or ""


@pytest.mark.parametrize(
    ("kind", "cause", "printed"),
    [
        ("client_error", "Client.InternalError", None),
        ("server_error", "Server.InternalError", None),
        ("volume_limit", "Client.VolumeLimitExceeded", None),
        ("no_snapshot", "Client.InvalidSnapshot.NotFound", None),
        ("scheduled_stop", "Server.ScheduledStop", None),
        ("no_host", "Server.InsufficientInstanceCapacity", None),
        ("power_off", "Client.InstanceInitiatedShutdown", "reboot: Power down"),
        ("no_python", "Client.InstanceInitiatedShutdown", "no agent that can be trusted"),
    ],
)
async def test_an_instance_that_ends_before_its_claim_says_why(
    world: Ec2World, api: FakeApi, stage: Stage, kind: str, cause: str, printed: str | None
) -> None:
    world.cloud.control.break_boots(kind)
    instance = await launch_one(world.adapter(), request_for(api, 1))
    await stage.deliver(launched(instance))
    end = await end_of(stage)
    assert end.cause == cause
    assert end.spot_interrupted is False
    if printed is None:
        assert end.console_output is None
    else:
        assert printed in await console_of(stage)
    assert api.claims[1] == []


@pytest.mark.parametrize(
    ("kind", "printed"),
    [
        ("kernel_panic", "Kernel panic - not syncing"),
        ("no_network", "from http://127.0.0.1:9/agent/ yet"),
    ],
)
async def test_an_instance_that_never_claims_is_terminated_and_its_console_says_why(
    world: Ec2World, api: FakeApi, stage: Stage, kind: str, printed: str
) -> None:
    world.cloud.control.break_boots(kind)
    instance = await launch_one(world.adapter(), request_for(api, 1))
    await stage.deliver(launched(instance))
    await until_printed(world, printed)
    await stage.deliver(boot_failed(stage))
    end = await end_of(stage)
    assert end.cause == "lost"
    assert printed in (end.console_output or "")
    assert world.cloud.control.running() == []


async def test_the_next_instance_boots_once_the_fault_is_mended(
    world: Ec2World, api: FakeApi
) -> None:
    world.cloud.control.break_boots("no_python", times=None)
    first = await launch_one(world.adapter(), request_for(api, 1))
    await until_state(world.adapter(), first.instance_id, InstanceState.TERMINATED)
    world.cloud.control.heal()
    await launch_one(world.adapter(), request_for(api, 2))
    await api.until(lambda: api.callbacks[2])


async def test_without_the_permission_the_end_comes_with_a_note(
    world: Ec2World, api: FakeApi, stage: Stage
) -> None:
    refused: dict[str, Any] = {"code": "UnauthorizedOperation", "status": 403, "times": None}
    world.cloud.control.fail("GetConsoleOutput", **refused)
    world.cloud.control.break_boots("power_off")
    instance = await launch_one(world.adapter(), request_for(api, 1))
    await stage.deliver(launched(instance))
    end = await end_of(stage)
    assert end.console_output == f"{NOTE}no permission ec2:GetConsoleOutput]"
    world.cloud.control.heal()
    assert "Power down" in await console_of(stage)


async def test_the_console_of_an_instance_that_ended_by_itself_comes_minutes_later_and_is_published(
    ports: Ports, slow: Ec2World, api: FakeApi
) -> None:
    """The reaper finds it terminated, when EC2 has posted nothing yet."""
    world, stage = slow, Stage(build(CONFIG, ports, slow.adapter()))
    world.cloud.control.break_boots("power_off")
    instance = await launch_one(world.adapter(), request_for(api, 1))
    await until_state(world.adapter(), instance.instance_id, InstanceState.TERMINATED)
    await stage.deliver(launched(instance))
    end = await end_of(stage)
    assert end.console_output is None
    assert "Power down" in await console_of(stage)
    first, last = await stage.published(InstanceTerminated)
    assert last == replace(first, console_output=last.console_output)


async def test_a_part_of_a_console_that_is_shown_while_its_instance_ends_hides_no_later_line(
    ports: Ports, api: FakeApi
) -> None:
    """EC2 answers with what it posted after the start, until it posts the rest after the end."""
    seconds = {"posted_seconds": 0.0, "shutdown_seconds": 60.0, "shutting_down_seconds": 400.0}
    world = Ec2World(api, console_posted_after_seconds=400.0, **seconds)
    try:
        stage = Stage(build(CONFIG, ports, world.adapter(settings=XEN)))
        world.cloud.control.break_boots("power_off")
        instance = await launch_one(world.adapter(settings=XEN), request_for(api, 1))
        await stage.deliver(launched(instance))

        async def read_early() -> bool:
            await stage.sweep(WATCH)
            return bool(await stage.rows("SELECT 1 FROM consoles"))

        await eventually(read_early)
        assert await stage.published(InstanceTerminated) == []
        first = await end_of(stage)
        assert "Linux version" in (first.console_output or "")
        assert "Power down" not in (first.console_output or "")

        async def whole() -> bool:
            await stage.sweep("read_consoles")
            last = (await stage.published(InstanceTerminated))[-1]
            return "Power down" in (last.console_output or "")

        await eventually(whole)
        assert len(await stage.published(InstanceTerminated)) == 2
        assert await stage.rows("SELECT 1 FROM console_reads") == []
    finally:
        await world.close()


async def test_of_a_type_without_nitro_the_posted_console_is_read(
    world: Ec2World, api: FakeApi
) -> None:
    world.cloud.control.break_boots("kernel_panic")
    compute = world.adapter(settings=XEN)
    instance = await launch_one(compute, request_for(api, 1))
    await until_printed(world, "Kernel panic")

    async def posted() -> bool:
        return "Kernel panic" in (await compute.console_output(instance.instance_id) or "")

    await eventually(posted)
    calls = world.cloud.control.calls("GetConsoleOutput")
    assert "UnsupportedOperation" in {each.outcome for each in calls}


@pytest.mark.parametrize("code", ["IncorrectInstanceState", "IncorrectState", "Unsupported"])
async def test_whatever_refuses_the_latest_console_what_was_posted_is_read(
    world: Ec2World, api: FakeApi, code: str
) -> None:
    """No document names the code for an instance that is not running any more."""
    world.cloud.control.break_boots("power_off")
    compute = world.adapter()
    instance = await launch_one(compute, request_for(api, 1))
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)

    async def posted() -> bool:
        world.cloud.control.heal()
        world.cloud.control.fail("GetConsoleOutput", code=code, status=400)
        return "Power down" in (await compute.console_output(instance.instance_id) or "")

    await eventually(posted)


async def test_an_instance_that_ec2_does_not_know_has_no_console(world: Ec2World) -> None:
    assert await world.adapter().console_output("i-0123456789abcdef0") is None


async def test_another_deployment_s_console_is_not_read_under_the_reapers_policy(
    world: Ec2World, api: FakeApi
) -> None:
    policy: dict[str, Any] = {
        "Effect": "Allow",
        "Action": "ec2:GetConsoleOutput",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/docker-job:deployment": "another"}},
    }
    compute: Ec2Compute = world.adapter()
    instance = await launch_one(compute, request_for(api, 1))
    iam = boto3.client("iam", **world.cloud.client_arguments())
    iam.create_user(UserName="reaper")
    document = f'{{"Version": "2012-10-17", "Statement": [{_json(policy)}]}}'
    iam.put_user_policy(UserName="reaper", PolicyName="own", PolicyDocument=document)
    key = iam.create_access_key(UserName="reaper")["AccessKey"]
    world.environment.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    world.environment.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    with pytest.raises(Rejected, match=r"no permission ec2:GetConsoleOutput"):
        await world.adapter().console_output(instance.instance_id)


def _json(value: object) -> str:
    return str(value).replace("'", '"')
