"""The user data, run for real: by a process, and in a container where a Docker engine answers."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from fake_aws import Cloud
from shared.clock import RealClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.user_data import MOST_BYTES, Boot, user_data
from shared.compute.port import InstanceState
from tests.support.compute.compute_adapters import eventually, launch_one, request_for, until_state
from tests.support.compute.compute_api import FakeApi, serve
from tests.support.compute.compute_ec2 import AGENT, REGION, SETTINGS, Ec2World
from tests.support.servers.tls_files import TlsFiles

pytestmark = pytest.mark.anyio

BOOT = Boot(
    api_url="https://jobs.example.org",
    deployment="production",
    agent_sha256="ab" * 32,
    max_lifetime_seconds=90,
)
PYTHON_IMAGE = "python:3.13-slim"
# 172.17.0.1 is where the instance is for a container on the engine's own bridge.
ASKING = """
import socket, sys
for host in "127.0.0.1", "172.17.0.1", "169.254.169.254":
    try:
        socket.create_connection((host, int(sys.argv[1])), 1).close()
        print("reached", host)
    except OSError as error:
        print("refused", host, error)
"""


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        yield api


@pytest.fixture(params=["process", "container"])
def boot(request: pytest.FixtureRequest) -> str:
    if request.param == "container" and not has_engine():
        pytest.skip("no Docker engine answers on this machine")
    return str(request.param)


def has_engine(image: str | None = None) -> bool:
    """Return whether a Docker engine answers, and has *image* if one is named."""
    docker = shutil.which("docker")
    asked = ["image", "inspect", image] if image else ["version"]
    return (
        docker is not None
        and subprocess.run([docker, *asked], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
async def world(api: FakeApi, boot: str) -> AsyncIterator[Ec2World]:
    world = Ec2World(api, boot=boot)
    yield world
    await world.close()


@pytest.fixture(params=["sh", "bash"])
def shell(request: pytest.FixtureRequest) -> str:
    found = shutil.which(str(request.param))
    if found is None:
        pytest.skip(f"this machine has no {request.param}")
    return found


def console(world: Ec2World) -> list[str]:
    """Return the output of the first instance."""
    text: str = world.cloud.control.instances()[0]["console"]
    return text.splitlines()


async def test_an_instance_boots_claims_its_attempt_and_powers_itself_off(
    world: Ec2World, api: FakeApi
) -> None:
    instance = await launch_one(world.adapter(), request_for(api, 1))
    await api.until(lambda: api.callbacks[1])
    terminated = await until_state(world.adapter(), instance.instance_id, InstanceState.TERMINATED)
    assert terminated.state_reason == "Client.InstanceInitiatedShutdown"
    lines = console(world)
    first = next(index for index, line in enumerate(lines) if line.startswith("power off in 120"))
    agent = next(index for index, line in enumerate(lines) if "agent started" in line)
    drops = [
        index
        for index, line in enumerate(lines)
        if line.startswith("iptables") and "-d 169.254.169.254 -j DROP" in line
    ]
    assert len(drops) == 2
    assert first < min(drops) <= max(drops) < agent
    assert any("mask" in line and "ecs.service" in line for line in lines)


async def test_an_agent_altered_in_transit_is_refused_and_asked_for_again(
    world: Ec2World, api: FakeApi
) -> None:
    compute = world.adapter()
    agent, api.agent = api.agent, api.agent + b"\nprint('something else')\n"
    instance = await launch_one(compute, request_for(api, 1))

    async def refused() -> bool:
        return any("or was altered: its SHA-256 is" in line for line in console(world))

    await eventually(refused)
    assert api.claims[1] == []
    api.agent = agent
    await api.until(lambda: api.callbacks[1])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert not any("something else" in line for line in console(world))


async def test_a_page_in_the_agents_place_is_not_the_end_of_the_instance(
    world: Ec2World, api: FakeApi
) -> None:
    """Covers a login page, or a gateway's, while the API is away."""
    agent, api.agent = api.agent, b"<html>Sign in</html>"
    compute = world.adapter()
    instance = await launch_one(compute, request_for(api, 1))

    async def refused() -> bool:
        return any("so it is not the API's" in line for line in console(world))

    await eventually(refused)
    api.agent = agent
    await api.until(lambda: api.callbacks[1])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_a_download_that_is_cut_off_is_not_the_end_of_the_instance(
    world: Ec2World, api: FakeApi
) -> None:
    api.cuts_off = 2
    compute = world.adapter()
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.callbacks[1])
    assert api.cuts_off == 0
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_a_job_s_container_that_asks_the_metadata_service_gets_no_answer(
    api: FakeApi,
) -> None:
    if not has_engine(PYTHON_IMAGE):
        pytest.skip(f"no Docker engine with {PYTHON_IMAGE} answers on this machine")
    world = Ec2World(api, boot="process", engine=True)
    try:
        compute = Ec2Compute(REGION, "test", RealClock(), AGENT, SETTINGS)
        instance = await launch_one(compute, request_for(api, 1))
        port = await metadata_port(world, instance.instance_id)
        api.image = PYTHON_IMAGE
        api.command[1] = ["python3", "-c", ASKING, str(port)]
        api.assigned[instance.instance_id] = 1, 1
        await api.until(lambda: api.callbacks[1])
    finally:
        await world.close()
    # The agent beside it has shown who it is with the role's credentials, which come from there.
    assert len(api.claims[1]) == 1
    assert api.callbacks[1] == [{"exit_code": 0}]
    assert [line.split()[0] for line in api.lines(1)] == ["refused"] * 3


async def test_an_instance_verifies_the_api_by_the_authority_of_its_user_data(
    boot: str, tmp_path: Path
) -> None:
    """The fetch of the agent and the agent's own calls; a wrong one is refused and asked again."""
    files = TlsFiles(tmp_path / "tls")
    for trusted, works in ((files, True), (TlsFiles(tmp_path / "other"), False)):
        async with serve(FakeApi(), files.server) as api:
            world = Ec2World(api, boot=boot)
            try:
                settings = msgspec.structs.replace(SETTINGS, api_ca=trusted.ca)
                compute = world.adapter(settings=settings)
                instance = await launch_one(compute, request_for(api, 1))
                if works:
                    await api.until(lambda: api.callbacks[1])
                    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
                    continue

                async def refused(world: Ec2World = world) -> bool:
                    return sum("CERTIFICATE_VERIFY_FAILED" in each for each in console(world)) >= 2

                await eventually(refused)
                assert api.claims[1] == []
                assert not any("agent started" in line for line in console(world))
            finally:
                await world.close()
    print("1 of 1 genuine API served its instance, 1 of 1 other one was refused")


def test_the_authority_leaves_room_in_the_user_data(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "tls")
    boot = msgspec.structs.replace(BOOT, api_ca=files.ca, session_manager=True)
    assert len(user_data(boot).encode()) < MOST_BYTES / 2
    assert "PRIVATE" not in user_data(boot)


async def metadata_port(world: Ec2World, instance_id: str) -> int:
    """Wait for the port at which the instance finds its metadata service."""
    found: list[int] = []

    async def known() -> bool:
        def look(cloud: Cloud) -> None:
            machine = cloud.machines.running.get(instance_id) if cloud.machines else None
            if machine is not None and machine.process is not None:
                found.append(machine.metadata.port)

        world.cloud.call(look)
        return bool(found)

    await eventually(known)
    return found[0]


def test_the_user_data_is_the_same_for_every_instance_short_and_without_a_secret() -> None:
    script = user_data(BOOT)
    assert script == user_data(BOOT)
    assert len(script.encode()) < MOST_BYTES / 2
    assert "TOKEN" not in script
    assert "DOCKER_JOB_JOB_ID" not in script
    assert "shutdown -h +2 " in script  # 90 s, in whole minutes


def test_the_user_data_is_a_script_that_a_shell_can_read(shell: str) -> None:
    hostile = Boot(
        api_url="http://api/'; reboot; '",
        deployment="$(reboot)",
        agent_sha256="`reboot`",
        max_lifetime_seconds=60,
    )
    for boot in (BOOT, hostile):
        read = subprocess.run([shell, "-n"], input=user_data(boot).encode(), check=False)
        assert read.returncode == 0
