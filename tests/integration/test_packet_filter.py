"""What a job reaches on a shared engine, with the host's packet filter installed for real.

It needs root on the engine's machine, for a network behind the host and for an address of a
metadata service.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import structlog.testing

from shared.compute.packet_filter import Mode, PacketFilter
from shared.compute.port import Deferred, InstanceState, Unknown
from shared.compute.process.host_filter import host_filter as process_filter
from tests.support.compute.compute_adapters import batch_of, launch_one, request_for, until_state
from tests.support.compute.compute_api import FakeApi, serve
from tests.support.compute.compute_docker import DockerWorld, docker, instance_image
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

IMAGE = "python:3.13-slim"
POOL = "10.216.0.0/18"
METADATA = "169.254.203.7"  # link-local, like a metadata service's, and nobody's
BEHIND, NEAR, FAR = "docker-job-test", "10.217.0.1", "10.217.0.2"
"""A network behind the host: its name, the host's address in it, and its own."""

TRY = """\
import socket, sys
gateway = next(line.split()[2] for line in open("/proc/net/route") if line.split()[1] == "0" * 8)
here = ".".join(str(byte) for byte in reversed(bytes.fromhex(gateway)))
for name, host in zip(sys.argv[2::2], sys.argv[3::2]):
    try:
        address = (here if host == "gateway" else host, int(sys.argv[1]))
        with socket.create_connection(address, 2) as peer:
            print(name, peer.recv(9).decode() or "cut off")
    except OSError as error:
        print(name, "unreachable" if isinstance(error, TimeoutError) else error)
print("own name", bool(socket.gethostbyname(socket.gethostname())))
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@functools.cache
def image_with_nft() -> str:
    """Build the tests' instance image with nft, or skip: that takes a network."""
    base = f"docker-job-test-filter:{os.getpid()}"  # the engine takes no image's id after FROM
    docker("tag", instance_image(), base)
    given = f"FROM {base}\nRUN apt-get update -q && apt-get install -yq nftables\n"
    built = subprocess.run(
        ["docker", "build", "--quiet", "--pull=false", "--tag", "docker-job-test-filter", "-"],
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    docker("image", "rm", base)
    if built.returncode != 0:
        pytest.skip(f"nft cannot be had: {built.stderr[-200:]}")
    return built.stdout.strip()


@pytest.fixture
def port() -> Iterator[int]:
    """Listen on all addresses of the host, and greet who connects."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def greet(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"reachable")


@pytest.fixture
def addresses(port: int) -> Iterator[None]:
    """Add a metadata service's address to this host, and a network behind it with a listener."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("this test adds addresses: it must be root, and have ip")
    script = (
        "import socket\n"
        f"listener = socket.create_server(('', {port}))\n"
        "while True: listener.accept()[0].sendall(b'reachable')\n"
    )
    commands = (
        f"ip addr add {METADATA}/32 dev lo",
        f"ip netns add {BEHIND}",
        f"ip link add test-near type veth peer name test-far netns {BEHIND}",
        f"ip addr add {NEAR}/30 dev test-near",
        "ip link set test-near up",
        f"ip -n {BEHIND} addr add {FAR}/30 dev test-far",
        f"ip -n {BEHIND} link set test-far up",
    )
    try:
        for command in commands:
            done = run(*command.split())
            if done.returncode != 0:
                pytest.skip(f"{command}: {done.stderr}")
        inside = ("ip", "netns", "exec", BEHIND, "python3", "-c", script)
        server = subprocess.Popen(inside)
        try:
            until(lambda: connects(FAR, port))
            yield
        finally:
            server.kill()
            server.wait()
    finally:
        run("ip", "addr", "del", f"{METADATA}/32", "dev", "lo")
        run("ip", "link", "del", "test-near")
        run("ip", "netns", "del", BEHIND)


def connects(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1) as peer:
        return peer.recv(9) == b"reachable"
    return False


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        api.image = IMAGE
        yield api


@contextlib.asynccontextmanager
async def world_of(image: str, mode: str = "require") -> AsyncIterator[DockerWorld]:
    engine = {"packet_filter": mode, "network_pool": POOL}
    world = DockerWorld("docker", image=image, shared_engine=engine, terminate_grace_seconds=1)
    yield world
    await world.close()


def reload_firewall() -> None:
    """Remove the table, as the reload of a host's firewall does."""
    host = ("--network", "host", "--user", "0", "--cap-add", "NET_ADMIN", "--entrypoint", "nft")
    docker("run", "--rm", *host, image_with_nft(), "delete", "table", "inet", "docker_job")


@pytest.mark.usefixtures("addresses")
@pytest.mark.parametrize("host_services", [True, False], ids=["one user", "API keys exist"])
async def test_a_job_reaches_the_world_and_not_what_is_not_its_own(
    api: FakeApi, port: int, *, host_services: bool
) -> None:
    api.host_services = host_services
    where = ("metadata", METADATA, "host", "gateway", "host", NEAR, "world", FAR)
    api.command[1] = ["python", "-c", TRY, str(port), *where]
    async with world_of(image_with_nft()) as world:
        compute = world.adapter()
        await asyncio.to_thread(reload_firewall)
        await compute.prepare()
        instance = await launch_one(compute, request_for(api, 1))
        await api.until(lambda: api.callbacks[1])
        await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    services = "host reachable" if host_services else "host unreachable"
    assert api.lines(1) == [
        "metadata unreachable",
        services,
        services,
        "world reachable",
        "own name True",
    ]


async def test_without_nft_nothing_is_launched_where_the_filter_is_required(api: FakeApi) -> None:
    async with world_of(instance_image()) as world:
        compute = world.adapter()
        batch = batch_of(request_for(api, 1))
        with pytest.raises(Deferred, match=r"DOCKER_JOB_PACKET_FILTER is require.*nft"):
            await compute.launch(batch)
        assert await compute.list_instances() == []
    listed = await asyncio.to_thread(docker, "ps", "-aq", "--filter", "name=packet-filter")
    assert listed.stdout == ""


async def test_the_filter_is_kept_while_an_instance_runs_and_else_installed_at_the_start_alone(
    api: FakeApi,
) -> None:
    host = Host()
    api.command[1] = ["sleep", "60"]
    async with world_of(instance_image(), "off") as world:
        compute = world.adapter()
        compute._filter = host.filter("require")
        await compute.prepare()
        host.seconds = 60
        await compute.prepare()
        assert host.installed == 1
        instance = await launch_one(compute, request_for(api, 1))
        await api.until(lambda: api.reports[1])
        host.seconds = 120
        await compute.prepare()
        assert host.installed == 3, "at the start, before the launch, and now"
        await compute.terminate([instance.instance_id])
        await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_a_repeated_launch_is_not_refused_for_good_for_it_may_have_an_instance(
    api: FakeApi,
) -> None:
    async with world_of(instance_image()) as world:
        batch = msgspec.structs.replace(batch_of(request_for(api, 1)), repeated=True)
        with pytest.raises(Unknown, match="nft"):
            await world.adapter().launch(batch)


async def test_without_nft_jobs_run_where_it_is_not_required_and_the_log_says_what_is_open(
    api: FakeApi,
) -> None:
    api.command[1] = ["true"]
    with structlog.testing.capture_logs() as entries:
        async with world_of(instance_image(), "try") as world:
            await launch_one(world.adapter(), request_for(api, 1))
            await api.until(lambda: api.callbacks[1])
    assert api.callbacks[1] == [{"exit_code": 0}]
    [entry] = [each for each in entries if each["log_level"] == "error"]
    assert "jobs are not kept from 169.254.169.254" in entry["event"]
    assert "nft" in entry["because"]
    assert "modprobe nf_tables" in entry["remedy"]


class Host:
    """A host whose filter can, or cannot, be installed."""

    def __init__(self) -> None:
        self.trouble = ""
        self.installed = 0
        self.seconds = 0.0

    async def install(self) -> str:
        self.installed += 1
        return self.trouble

    def filter(self, mode: Mode, *, alarms: bool = True) -> PacketFilter:
        def seconds() -> float:
            return self.seconds

        return PacketFilter(mode, self.install, "a remedy", alarms=alarms, seconds=seconds)


async def test_the_filter_is_installed_again_once_a_minute_at_most() -> None:
    host = Host()
    kept = host.filter("require")
    assert await asyncio.gather(*(kept.keep() for _ in range(9))) == [""] * 9
    assert host.installed == 1
    host.seconds = 60
    assert await kept.keep() == ""
    assert host.installed == 2


async def test_a_filter_that_is_off_is_not_installed() -> None:
    host = Host()
    assert await host.filter("off").keep() == ""
    assert host.installed == 0


@pytest.mark.parametrize(("alarms", "logged"), [(True, 3), (False, 1)])
async def test_a_missing_filter_is_logged_again_where_others_may_use_the_engine(
    *, alarms: bool, logged: int
) -> None:
    host = Host()
    host.trouble = "no nf_tables"
    kept = host.filter("try", alarms=alarms)
    with structlog.testing.capture_logs() as entries:
        for minute in range(21):
            host.seconds = 60.0 * minute
            assert await kept.keep() == ""
    assert len(entries) == logged
    assert entries[0]["log_level"] == ("error" if alarms else "warning")


async def test_this_machines_own_filter_is_installed_where_that_is_allowed() -> None:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("only root may change the packet filter, with nft")
    assert await process_filter("require").keep() == ""
    shown = await asyncio.to_thread(run, "nft", "list", "table", "inet", "docker_job")
    assert 'iifname "djk*"' in shown.stdout
