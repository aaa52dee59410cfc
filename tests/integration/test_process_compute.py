"""The process adapter in its crash windows, with real processes and, if there is one, an engine."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from shared.clock import VirtualClock
from shared.compute.port import InstanceState, LaunchBatch, Rejected, Unknown
from shared.compute.process.adapter import ProcessCompute, Runtime, instance_id_of
from shared.compute.process.directory import InstanceDir, Launched, Stage
from shared.compute.process.instances import ProcessSettings
from shared.compute.process.leftovers import INSTANCE_LABEL, ContainerEngine
from shared.compute.process.processes import kill_left_behind
from tests.support.compute.compute_adapters import (
    AGENT,
    STUB,
    ProcessWorld,
    batch_of,
    eventually,
    launch_one,
    request_for,
    until_state,
)
from tests.support.compute.compute_api import FakeApi, serve

pytestmark = pytest.mark.anyio

LONG = {"SIMULATE_SECONDS": "60"}
LAUNCHER = """
import asyncio, os, sys
from pathlib import Path
import msgspec
from shared.clock import RealClock
from shared.compute.port import LaunchBatch
from shared.compute.process.adapter import ProcessCompute

async def main():
    root, agent, then = sys.argv[1:]
    batch = msgspec.json.decode(sys.stdin.buffer.read(), type=LaunchBatch)
    compute = ProcessCompute(Path(root), "test", RealClock(), Path(agent), "simulated")
    print([getattr(each, "instance_id", each) for each in await compute.launch(batch)])
    if then == "die":
        os.kill(os.getpid(), 9)
    await compute.close()

asyncio.run(main())
"""


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serve(FakeApi()) as api:
        yield api


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ProcessWorld]:
    world = ProcessWorld(tmp_path, STUB)
    yield world
    await world.close()


@pytest.fixture
def now() -> VirtualClock:
    return VirtualClock(datetime.now(UTC))


@pytest.fixture
async def make(
    world: ProcessWorld, now: VirtualClock
) -> AsyncIterator[Callable[..., ProcessCompute]]:
    """Make adapters over the world's root, on a clock moved by hand."""
    made: list[ProcessCompute] = []

    def make_one(
        agent: Path = STUB,
        runtime: Runtime = "simulated",
        *,
        python: str = sys.executable,
        settings: ProcessSettings | None = None,
        engine: ContainerEngine | None = None,
    ) -> ProcessCompute:
        compute = ProcessCompute(
            world.root, "test", now, agent, runtime, python, settings=settings, engine=engine
        )
        made.append(compute)
        return compute

    yield make_one
    await world.close()
    for compute in made:
        await compute.close()


def home_of(world: ProcessWorld, job_id: int) -> InstanceDir:
    """Return the directory of a job's instance."""
    return InstanceDir(world.root / "instances" / instance_id_of("test", f"token-{job_id}"))


def record_without_start(world: ProcessWorld, api: FakeApi, now: VirtualClock) -> InstanceDir:
    """Make the leftover of a launcher that ended between launch.json and the start."""
    home = home_of(world, 1)
    home.make()
    request = request_for(api, 1, bootstrap_token="")
    home.write_launched(
        Launched(request=request, launched_at=now.now(), runtime="simulated", hourly_price_usd=0.0)
    )
    return home


def processes_named(home: InstanceDir) -> list[str]:
    """List the lines of `ps` of processes, zombie or not, started for *home*."""
    ps = subprocess.run(
        ("ps", "-e", "-o", "pid=,ppid=,stat=,args="), capture_output=True, text=True, check=True
    )
    pid = home.pid()
    return [line for line in ps.stdout.splitlines() if line.split()[0] == str(pid)]


def children_left(world: ProcessWorld) -> dict[int, bool]:
    """Return the ids in files named `child`, and whether each runs (not as a zombie)."""
    found = {}
    for file in world.root.glob("instances/*/child"):
        stat = Path(f"/proc/{file.read_text()}/stat")
        lives = stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        found[int(file.read_text())] = lives
    return found


def launcher(world: ProcessWorld, batch: LaunchBatch, then: str) -> subprocess.Popen[bytes]:
    """Another process that launches *batch* over the same root."""
    process = subprocess.Popen(
        (sys.executable, "-c", LAUNCHER, str(world.root), str(STUB), then),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(batch))
    process.stdin.close()
    process.stdin = None
    return process


async def test_agents_outlive_a_launcher_that_is_killed_and_are_adopted(
    world: ProcessWorld, api: FakeApi
) -> None:
    api.env_vars = dict.fromkeys(range(1, 4), LONG)
    batch = batch_of(*(request_for(api, each) for each in range(1, 4)))
    killed = launcher(world, batch, "die")
    out, _ = await asyncio.to_thread(killed.communicate)
    assert killed.returncode == -signal.SIGKILL, out
    await api.until(lambda: all(api.reports[each] for each in range(1, 4)))

    compute = world.adapter()
    assert [each.state for each in await compute.list_instances()] == [InstanceState.RUNNING] * 3
    await compute.launch(batch)
    assert [len(api.claims[each]) for each in range(1, 4)] == [1, 1, 1]
    ids = [each.instance_id for each in await compute.list_instances()]
    await compute.terminate(ids)
    for instance_id in ids:
        await until_state(compute, instance_id, InstanceState.TERMINATED)


async def test_two_launcher_processes_at_once_start_one_agent_for_each_launch(
    world: ProcessWorld, api: FakeApi
) -> None:
    batch = batch_of(*(request_for(api, each) for each in range(1, 11)))
    replicas = [launcher(world, batch, "end") for _ in range(3)]
    answers = [await asyncio.to_thread(each.communicate) for each in replicas]
    assert len({out for out, _ in answers}) == 1
    await api.until(lambda: all(api.callbacks[each] for each in range(1, 11)))
    assert [len(api.claims[each]) for each in range(1, 11)] == [1] * 10


async def test_a_launch_cut_off_before_the_start_is_pending_and_started_by_its_repetition(
    world: ProcessWorld, api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    home = record_without_start(world, api, now)
    compute = make()
    [shown] = await compute.list_instances()
    assert (shown.instance_id, shown.state) == (home.instance_id, InstanceState.PENDING)
    now.advance(30)
    await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.callbacks[1])


async def test_a_launch_cut_off_before_the_start_can_be_terminated_and_then_never_starts(
    world: ProcessWorld, api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    home = record_without_start(world, api, now)
    compute = make()
    await compute.terminate([home.instance_id])
    assert (await launch_one(compute, request_for(api, 1))).state is InstanceState.TERMINATED
    assert home.spawned() is None


async def test_a_launch_cut_off_and_never_repeated_is_terminated_after_its_maximum_lifetime(
    world: ProcessWorld, api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    record_without_start(world, api, now)
    now.advance(61)
    [shown] = await make().list_instances()
    assert shown.state is InstanceState.TERMINATED
    assert "never repeated" in shown.state_reason


async def test_a_start_that_was_not_recorded_is_adopted_by_its_lock(
    world: ProcessWorld, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    api.env_vars[1] = LONG
    compute = make()
    await launch_one(compute, request_for(api, 1))
    (home_of(world, 1).path / "spawned.json").unlink()
    await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    assert len(api.claims[1]) == 1


def test_a_start_excludes_readers_and_many_may_read_at_once(tmp_path: Path) -> None:
    home = InstanceDir(tmp_path)
    with (tmp_path / "spawn.lock").open("w") as other:
        with home.lock(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with home.lock(shared=True):
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_directory_in_which_a_process_lives_takes_no_second_one(tmp_path: Path) -> None:
    home = InstanceDir(tmp_path)
    with home.process_lock(), pytest.raises(Unknown), home.process_lock():
        pass


async def test_an_agent_that_ignores_sigterm_is_killed_after_its_grace(
    world: ProcessWorld, api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    api.env_vars[1] = LONG | {"STUB_DEAF": "1"}
    compute = make(settings=ProcessSettings(terminate_grace_seconds=2))
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    await compute.terminate([instance.instance_id])
    now.advance(6.9)
    await compute.terminate([instance.instance_id])
    shown = (await compute.describe([instance.instance_id]))[instance.instance_id]
    assert shown.state is InstanceState.STOPPING
    now.advance(0.2)
    await compute.terminate([instance.instance_id])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_a_clock_that_was_set_back_does_not_keep_a_deaf_agent_alive(
    api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    api.env_vars[1] = LONG | {"STUB_DEAF": "1"}
    compute = make()
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    await compute.terminate([instance.instance_id])
    now.advance(-3600)
    await compute.terminate([instance.instance_id])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


async def test_a_process_that_never_speaks_is_ended_after_the_boot_time(
    tmp_path: Path, api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    mute = tmp_path / "mute.py"
    mute.write_text("import signal\nwhile True: signal.pause()\n")
    compute = make(agent=mute)
    instance = await launch_one(compute, request_for(api, 1))
    shown = (await compute.describe([instance.instance_id]))[instance.instance_id]
    assert shown.state is InstanceState.PENDING
    now.advance(21)
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert terminated.state_reason == "its agent did not start within 20 s"


async def test_an_agent_killed_from_outside_is_terminated_and_leaves_no_zombie(
    world: ProcessWorld, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    api.env_vars[1] = LONG
    compute = make()
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.reports[1])
    pid = home_of(world, 1).pid()
    assert pid is not None
    assert processes_named(home_of(world, 1))
    os.kill(pid, signal.SIGKILL)
    terminated = await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert terminated.state_reason == "its agent ended without a report"
    assert processes_named(home_of(world, 1)) == []


async def test_a_launcher_that_is_never_asked_again_leaves_no_zombie(
    world: ProcessWorld, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    await launch_one(make(), request_for(api, 1))
    await api.until(lambda: api.callbacks[1])

    async def none_is_left() -> bool:
        return processes_named(home_of(world, 1)) == []

    await eventually(none_is_left)


async def test_a_process_that_an_agent_left_behind_goes_with_the_instance(
    world: ProcessWorld, tmp_path: Path, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    leaver = tmp_path / "leaver.py"
    leaver.write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'],"
        " env={}, start_new_session=True)\n"
        "open('child', 'w').write(str(child.pid))\n"
    )
    compute = make(agent=leaver)
    instance = await launch_one(compute, request_for(api, 1))
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert list(children_left(world).values()) == [False]


async def test_a_python_that_is_not_there_is_a_refusal_that_leaves_nothing(
    world: ProcessWorld, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    compute = make(python="/nowhere/python")
    [answer] = await compute.launch(batch_of(request_for(api, 1)))
    assert isinstance(answer, Rejected)
    assert await compute.list_instances() == []
    assert world.homes() == []


async def test_an_agent_gets_its_own_variables_and_no_secret_of_ours(
    world: ProcessWorld,
    api: FakeApi,
    make: Callable[..., ProcessCompute],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_JOB_DATABASE_URL", "postgres://canary")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    await launch_one(make(), request_for(api, 1))
    await api.until(lambda: api.claims[1])
    names = set(api.claims[1][0]["environment"])
    assert {"PATH", "DOCKER_HOST", "DOCKER_JOB_INSTANCE_DIR", "DOCKER_JOB_RUNTIME"} <= names
    assert "DOCKER_JOB_DATABASE_URL" not in names
    written = [path.read_bytes() for path in world.root.rglob("*") if path.is_file()]
    assert not [each for each in written if b"bootstrap-1" in each or b"canary" in each]
    for path in (world.root / "instances", home_of(world, 1).path):
        assert path.stat().st_mode & 0o777 == 0o700


async def test_terminated_instances_are_forgotten_after_their_retention_and_above_their_number(
    world: ProcessWorld, api: FakeApi, now: VirtualClock, make: Callable[..., ProcessCompute]
) -> None:
    compute = make(settings=ProcessSettings(retained_count=2, retention_seconds=100))
    for job_id in (1, 2, 3):
        instance = await launch_one(compute, request_for(api, job_id))
        await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert [each.job_id for each in await compute.list_instances() if each.job_id == 1] == []
    assert len(world.homes()) == 2
    now.advance(200)
    assert await compute.list_instances() == []
    assert world.homes() == []


async def test_fifty_launches_at_once_all_run(
    api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    compute = make(agent=AGENT)
    await compute.launch(batch_of(*(request_for(api, each) for each in range(1, 51))))
    await api.until(lambda: all(api.callbacks[each] for each in range(1, 51)))

    async def all_have_ended() -> bool:
        states = [each.state for each in await compute.list_instances()]
        return states == [InstanceState.TERMINATED] * 50

    await eventually(all_have_ended)


# --- containers ----------------------------------------------------------------------------------

needs_engine = pytest.mark.skipif(
    not ContainerEngine().answers(), reason="no Docker engine answers on this machine"
)


async def test_an_instance_is_not_terminated_while_the_engine_does_not_answer(
    api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    compute = make(runtime="docker", engine=ContainerEngine("false"))
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: api.callbacks[1])

    async def its_agent_is_seen_dead() -> bool:
        [shown] = (await compute.describe([instance.instance_id])).values()
        assert shown.state is not InstanceState.TERMINATED
        return shown.state_reason == "the Docker engine does not answer"

    await eventually(its_agent_is_seen_dead)
    again = make(runtime="docker", engine=ContainerEngine("true"))  # answers: no containers
    await until_state(again, instance.instance_id, InstanceState.TERMINATED)


async def test_an_automatic_runtime_is_simulated_without_a_client(
    api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    compute = make(runtime="auto", engine=ContainerEngine("no-such-docker"))
    assert await compute.container_runtime() == "simulated"
    instance = await launch_one(compute, request_for(api, 1))
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)


@needs_engine
async def test_terminated_means_that_the_container_of_a_killed_agent_is_removed(
    world: ProcessWorld, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    api.command[1] = ["sleep", "300"]
    compute = make(agent=AGENT, runtime="auto")
    assert await compute.container_runtime() == "docker"
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: any(each["phase"] == "running" for each in api.reports[1]))
    home = home_of(world, 1)
    assert await containers_of(instance.instance_id)
    # The agent, its docker clients and its guard, all at once: only we are left to clean up.
    assert await asyncio.to_thread(kill_left_behind, {home.path}) == set()
    assert home.stage() is Stage.DEAD
    assert await containers_of(instance.instance_id)
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert await containers_of(instance.instance_id) == []
    assert await networks_of(instance.instance_id) == []


@needs_engine
async def test_terminate_stops_a_real_container_and_its_agent(
    world: ProcessWorld, api: FakeApi, make: Callable[..., ProcessCompute]
) -> None:
    api.command[1] = ["sleep", "300"]
    settings = ProcessSettings(terminate_grace_seconds=1)
    compute = make(agent=AGENT, runtime="docker", settings=settings)
    instance = await launch_one(compute, request_for(api, 1))
    await api.until(lambda: any(each["phase"] == "running" for each in api.reports[1]))
    before = datetime.now(UTC)
    await compute.terminate([instance.instance_id])
    await until_state(compute, instance.instance_id, InstanceState.TERMINATED)
    assert await containers_of(instance.instance_id) == []
    assert datetime.now(UTC) - before < timedelta(seconds=15)
    assert shutil.which("docker")
    assert processes_named(home_of(world, 1)) == []


async def containers_of(instance_id: str) -> list[str]:
    """Return ids of the containers that the engine has of an instance."""
    found = await asyncio.to_thread(ContainerEngine().by_instance)
    assert found is not None
    return found.get(instance_id, [])


async def networks_of(instance_id: str) -> list[str]:
    """Return ids of the networks that the engine has of an instance."""
    command = ("docker", "network", "ls", "-q", "--filter", f"label={INSTANCE_LABEL}={instance_id}")
    listed = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    return listed.stdout.decode().split()
