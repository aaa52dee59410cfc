"""The docker adapter in its crash windows, with real containers on a real engine."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.clock import VirtualClock
from shared.compute.docker.container import LABEL, container_name, container_of, instance_id_of
from shared.compute.docker.engine import EngineApi
from shared.compute.docker.values import ListedContainer
from shared.compute.port import InstanceState, LaunchRequest, Rejected
from tests.integration.test_agent import FakeMetadata
from tests.support.compute.compute_adapters import (
    batch_of,
    eventually,
    launch_one,
    request_for,
    until_state,
)
from tests.support.compute.compute_api import FakeApi, serve
from tests.support.compute.compute_docker import HOST, DockerWorld, Isolated, docker, instance_image

pytestmark = pytest.mark.anyio

IMAGE = "python:3.13-slim"
STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        api.image = IMAGE
        yield api


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., DockerWorld]]:
    """Make worlds, whose jobs run in real containers by default."""
    worlds: list[DockerWorld] = []

    def make(runtime: str = "docker", **settings: object) -> DockerWorld:
        settings = {"terminate_grace_seconds": 1, **settings}
        worlds.append(DockerWorld(runtime, **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


@pytest.fixture
async def engine() -> AsyncIterator[EngineApi]:
    engine = EngineApi(HOST)
    yield engine
    await engine.close()


async def containers(engine: EngineApi, compute: Isolated) -> list[ListedContainer]:
    """Return all containers that the engine has of a deployment."""
    return await engine.containers(f"{LABEL}deployment={compute.deployment}")


async def jobs_containers(engine: EngineApi, compute: Isolated) -> list[ListedContainer]:
    """List the containers of its jobs alone."""
    return [each for each in await containers(engine, compute) if not each.label(f"{LABEL}role")]


async def networks(engine: EngineApi, compute: Isolated) -> list[str]:
    """Return the instances that have a network on the engine."""
    found = await engine.networks(f"{LABEL}deployment={compute.deployment}")
    return [each.label(f"{LABEL}instance") for each in found]


def request_of(compute: Isolated, api: FakeApi, job_id: int) -> LaunchRequest:
    """Build the request as the adapter gets it, past the renaming of deployments."""
    return request_for(api, job_id, deployment=compute.deployment)


async def create_only(engine: EngineApi, compute: Isolated, api: FakeApi, job_id: int) -> str:
    """Make the leftover of a launch cut off between creation and start; return its id."""
    request = request_of(compute, api, job_id)
    instance_id = instance_id_of(request.deployment, request.token)
    body = container_of(request, compute._settings, engine.host, engine.socket)
    assert await engine.create(container_name(instance_id), body)
    return instance_id


def runs(api: FakeApi, job_id: int) -> Callable[[], bool]:
    return lambda: any(each["phase"] == "running" for each in api.reports[job_id])


async def test_a_job_runs_beside_its_instance_and_nothing_is_left_after_the_retention(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    compute = make().adapter(clock=clock)
    api.command[1] = ["sh", "-c", "echo hello from a container; echo $KEY"]
    api.env_vars[1] = {"KEY": "a 'b' #c"}
    instance = await launch_one(compute, request_for(api, 1))
    assert (instance.instance_type, instance.zone) == ("docker", "local")
    await api.until(lambda: api.callbacks[1])
    assert api.callbacks[1] == [{"exit_code": 0}]
    assert api.lines(1) == ["hello from a container", "a 'b' #c"]
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert terminated.state_reason == "final callback exit_code answered with status 200"
    clock.advance(14)
    assert [each.state for each in await compute.list_instances()] == [InstanceState.TERMINATED]
    clock.advance(1)
    volumes = await volumes_of(instance.instance_id)
    assert len(volumes) == 1
    assert await compute.list_instances() == []
    assert await containers(engine, compute) == []
    assert await networks(engine, compute) == []
    shown = await asyncio.to_thread(docker, "volume", "inspect", *volumes)
    assert json.loads(shown.stdout) == []


async def volumes_of(instance_id: str) -> list[str]:
    """Return the names of the volumes of an instance's container."""
    shown = await asyncio.to_thread(docker, "inspect", container_name(instance_id))
    [seen] = json.loads(shown.stdout)
    return [each["Name"] for each in seen["Mounts"] if each["Type"] == "volume"]


async def test_an_instance_is_not_root_and_holds_nothing_but_the_socket(
    make: Callable[..., DockerWorld], api: FakeApi
) -> None:
    compute = make().adapter()
    api.command[1] = ["sleep", "60"]
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(runs(api, 1))
    name = container_name(instance.instance_id)
    [seen] = json.loads((await asyncio.to_thread(docker, "inspect", name)).stdout)
    limits: dict[str, Any] = seen["HostConfig"]
    assert limits["ReadonlyRootfs"]
    assert limits["CapDrop"] == ["ALL"]
    assert limits["SecurityOpt"] == ["no-new-privileges"]
    assert limits["RestartPolicy"]["Name"] == "no"
    assert limits["Memory"] > 0
    assert limits["PidsLimit"] > 0
    assert not limits["Privileged"]
    assert [each["Destination"] for each in seen["Mounts"] if each["Type"] == "bind"] == [
        "/var/run/docker.sock"
    ]
    assert "bootstrap" not in json.dumps(seen["Config"]["Labels"])
    shown = await asyncio.to_thread(docker, "exec", name, "id", "-u")
    assert shown.stdout.strip() == "10001"


async def test_what_a_killed_instance_left_is_removed_before_it_is_called_terminated(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    compute = make().adapter()
    api.command[1] = STUBBORN
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(runs(api, 1))
    await engine.kill(container_name(instance.instance_id), "SIGKILL")

    async def died() -> bool:
        found = await engine.inspect(container_name(instance.instance_id))
        return found is not None and found.state.status == "exited"

    await eventually(died)
    assert [each.state for each in await jobs_containers(engine, compute)] == ["running"]
    assert await networks(engine, compute) == [instance.instance_id]
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert await jobs_containers(engine, compute) == []
    assert await networks(engine, compute) == []
    assert terminated.state_reason == "its agent ended without a report, exit code 137"


async def test_terminate_stops_a_stubborn_container_and_its_agent(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    compute = make().adapter()
    api.command[1] = STUBBORN
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(runs(api, 1))
    await compute.terminate([instance.instance_id])
    stopping = (await compute.describe([instance.instance_id]))[instance.instance_id]
    assert (stopping.state, stopping.state_reason) == (
        InstanceState.STOPPING,
        "terminated on request",
    )
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert await jobs_containers(engine, compute) == []
    assert terminated.state_reason == "no final callback: terminated"


@pytest.mark.parametrize("set_back", [False, True], ids=["in time", "the clock was set back"])
async def test_an_instance_that_ignores_signals_is_killed_after_its_grace(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi, *, set_back: bool
) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    compute = make().adapter(clock=clock)
    api.command[1] = ["sleep", "300"]
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(runs(api, 1))
    await engine.kill(container_name(instance.instance_id), "SIGSTOP")
    await compute.terminate([instance.instance_id])
    clock.advance(5)
    await compute.terminate([instance.instance_id])
    [seen] = await compute.list_instances()
    assert seen.state is InstanceState.STOPPING
    clock.advance(-3600 if set_back else 1)
    await compute.terminate([instance.instance_id])
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert terminated.state_reason == "terminated on request, exit code 137"
    assert await jobs_containers(engine, compute) == []


async def test_a_paused_instance_is_terminated_too(
    make: Callable[..., DockerWorld], api: FakeApi
) -> None:
    compute = make("simulated").adapter()
    api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    await asyncio.to_thread(docker, "pause", container_name(instance.instance_id))
    await compute.terminate([instance.instance_id])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_a_launch_that_was_cut_off_before_the_start_is_pending_and_the_next_one_starts_it(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    compute = make("simulated").adapter()
    instance_id = await create_only(engine, compute, api, 1)
    [pending] = await compute.list_instances()
    assert (pending.instance_id, pending.state) == (instance_id, InstanceState.PENDING)
    launched = await launch_one(compute, request_for(api, 1))
    assert launched.launched_at == pending.launched_at
    await api.until(lambda: api.callbacks[1])


async def test_what_was_terminated_before_its_start_never_runs_whoever_starts_it(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    world = make("simulated")
    compute = world.adapter(clock=clock)
    instance_id = await create_only(engine, compute, api, 1)
    await compute.terminate([instance_id])
    [terminated] = await compute.list_instances()
    assert terminated.state is InstanceState.TERMINATED
    assert terminated.terminated_at
    assert terminated.terminated_at >= terminated.launched_at
    assert (await launch_one(compute, request_for(api, 1))).state is InstanceState.TERMINATED
    replica = world.adapter(clock=clock)
    assert (await launch_one(replica, request_for(api, 1))).state is InstanceState.TERMINATED
    await engine.start(container_name(instance_id))  # by a replica that looked before
    await until_state(compute, instance_id, InstanceState.TERMINATED)
    assert api.claims[1] == []
    clock.advance(60)
    await compute.list_instances()
    assert await containers(engine, compute) == []


async def test_an_ended_instance_that_is_started_again_runs_nothing(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    compute = make("simulated").adapter()
    instance = await launch_one(compute, request_for(api, 1))
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    await engine.start(container_name(instance.instance_id))
    again = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert again == terminated
    assert len(api.claims[1]) == 1


async def test_a_refused_start_leaves_nothing(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    compute = make(network="no-such-network").adapter()
    [answer] = await compute.launch(batch_of(request_for(api, 1)))
    assert isinstance(answer, Rejected)
    assert "no-such-network" in str(answer)
    assert await containers(engine, compute) == []


async def test_an_image_that_the_engine_lacks_is_a_refusal(
    make: Callable[..., DockerWorld], api: FakeApi
) -> None:
    compute = make(image="no-such-image:1").adapter()
    [answer] = await compute.launch(batch_of(request_for(api, 1)))
    assert isinstance(answer, Rejected)
    assert "no-such-image" in str(answer)


async def test_a_container_whose_instance_is_missing_is_removed_and_no_other_is(
    make: Callable[..., DockerWorld], engine: EngineApi
) -> None:
    compute = make().adapter()

    async def create(instance_id: str, deployment: str) -> None:
        labels = {f"{LABEL}instance": instance_id, f"{LABEL}deployment": deployment}
        body = {"Image": instance_image(), "Labels": labels}
        assert await engine.create(f"test-{deployment}-{instance_id}", body)

    ours, process_adapters = "d-00000000000000000", "p-00000000000000000"
    other = make().adapter()
    await create(ours, compute.deployment)
    await create(process_adapters, compute.deployment)
    await create(ours, other.deployment)
    assert await compute.list_instances() == []
    left = [each.label(f"{LABEL}instance") for each in await containers(engine, compute)]
    assert left == [process_adapters]
    assert len(await containers(engine, other)) == 1


async def test_a_network_whose_instance_is_missing_is_removed_and_no_other_is(
    make: Callable[..., DockerWorld], api: FakeApi, engine: EngineApi
) -> None:
    compute = make("simulated").adapter()
    alive = await create_only(engine, compute, api, 1)
    gone, process_adapters = "d-00000000000000000", "p-00000000000000000"
    for number, instance_id in enumerate((alive, gone, process_adapters)):
        labels = (f"{LABEL}deployment={compute.deployment}", f"{LABEL}instance={instance_id}")
        given = [part for label in labels for part in ("--label", label)]
        subnet = f"10.215.{number}.0/28"
        name = f"test-{compute.deployment}-{number}"
        made = await asyncio.to_thread(
            docker, "network", "create", "--subnet", subnet, *given, name
        )
        assert made.returncode == 0, made.stderr
    await compute.list_instances()
    assert sorted(await networks(engine, compute)) == sorted([alive, process_adapters])


async def test_an_interruption_shows_in_the_instance(
    make: Callable[..., DockerWorld], api: FakeApi
) -> None:
    notices = FakeMetadata()
    with notices.serving():
        compute = make("simulated", metadata_url=notices.url).adapter()
        api.env_vars[1] = {"SIMULATE_SECONDS": "60"}
        instance = await launch_one(compute, request_for(api, 1))
        await api.until(lambda: api.claims[1])
        notices.give_notice(30)
        terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert terminated.spot_interrupted
    assert api.callbacks[1][0] == {"schedule": ""}
