"""The docker adapter's reading of an engine's answers, with an engine that answers by script."""

import asyncio
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.clock import RealClock
from shared.compute.docker.adapter import DockerCompute
from shared.compute.docker.container import LABEL, DockerSettings, labels_of
from shared.compute.port import (
    ComputeError,
    Instance,
    InstanceState,
    LaunchRequest,
    Rejected,
    Throttled,
    Unknown,
)
from shared.compute.shared_engine import SharedEngine
from tests.support.compute.compute_adapters import batch_of

pytestmark = pytest.mark.anyio

REQUEST = LaunchRequest(
    token="token-1",
    deployment="test",
    job_id=1,
    attempt=1,
    max_lifetime_seconds=60,
    api_url="http://api:8000",
    bootstrap_token="secret",
)
LABELS = labels_of(REQUEST, DockerSettings())
CREATE, START, LIST = "POST create", "POST start", "GET json"
Answer = tuple[int, object]


class ScriptedEngine:
    """Answers each kind of call with what is scripted for it, the last answer again and again."""

    def __init__(self) -> None:
        self.version = "1.41"
        self.calls: Counter[str] = Counter()
        self.bodies: dict[str, Any] = {}
        self.paths: list[str] = []
        self.script: defaultdict[str, list[Answer]] = defaultdict(lambda: [(204, None)])
        self.script[CREATE] = [(201, {"Id": "c1"})]
        running = {"Id": "c1", "State": "running", "Created": 1_750_000_000, "Labels": LABELS}
        self.script["list"] = [(200, [running])]
        self.script["GET networks"] = [(200, [])]

    def inspected(self, status: str, **labels: str) -> Answer:
        state = {"Status": status, "ExitCode": 0, "FinishedAt": "2026-01-01T00:00:00.123456789Z"}
        return 200, {"State": state, "Config": {"Labels": LABELS | labels}}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.path == "/_ping":
            self.calls["ping"] += 1
            return web.Response(text="OK", headers={"Api-Version": self.version})
        last = request.path.rpartition("/")[2]
        kind = "list" if request.path.endswith("/containers/json") else f"{request.method} {last}"
        self.calls[kind] += 1
        raw = await request.read()
        self.bodies[kind] = json.loads(raw) if raw and request.method == "POST" else raw
        answers = self.script[kind]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 0:  # the answer is lost
            assert request.transport
            request.transport.abort()
            await asyncio.sleep(0)
        if status in (0, 204):
            return web.Response(status=204)
        return web.Response(status=status, text=json.dumps(body))


@asynccontextmanager
async def serving(engine: ScriptedEngine, path: Path | None) -> AsyncIterator[str]:
    """Serve *engine* on a socket at *path*, or on a port; yield its address as in DOCKER_HOST."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.UnixSite(runner, str(path)) if path else web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"unix://{path}" if path else f"tcp://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def socket() -> Iterator[Path]:
    """Make a path that is short enough for a socket; `tmp_path` has the test's name in it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "docker.sock"


@pytest.fixture
async def engine(socket: Path) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine()
    async with serving(engine, socket):
        yield engine


@pytest.fixture
async def compute(socket: Path) -> AsyncIterator[DockerCompute]:
    settings = DockerSettings(shared_engine=SharedEngine(packet_filter="off"))
    compute = DockerCompute("test", RealClock(), settings, host=f"unix://{socket}")
    yield compute
    await compute.close()


async def launch(compute: DockerCompute) -> Instance | ComputeError:
    [answer] = await compute.launch(batch_of(REQUEST))
    return answer


async def test_where_no_engine_answers_nothing_was_launched_and_the_message_says_where(
    compute: DockerCompute, socket: Path
) -> None:
    answer = await launch(compute)
    assert isinstance(answer, Throttled)
    assert f"no Docker engine answers at unix://{socket}" in str(answer)
    for call in (compute.list_instances(), compute.terminate(["d-1"]), compute.describe(["d-1"])):
        with pytest.raises(Throttled):
            await call


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        (CREATE, 404, Rejected),
        (CREATE, 400, Rejected),
        (CREATE, 403, Rejected),
        (CREATE, 429, Throttled),
        (CREATE, 500, Unknown),
        (CREATE, 0, Unknown),
        (START, 500, Unknown),
        (START, 0, Unknown),
        ("list", 500, Unknown),
        ("list", 0, Unknown),
        ("list", 403, Unknown),
    ],
)
async def test_each_answer_to_a_launch_says_what_the_caller_does_next(
    engine: ScriptedEngine,
    compute: DockerCompute,
    kind: str,
    status: int,
    expected: type[ComputeError],
) -> None:
    engine.script[kind] = [(status, {"message": "the engine's own words"})]
    answer = await launch(compute)
    assert type(answer) is expected
    assert status == 0 or "the engine's own words" in str(answer)


async def test_a_refused_start_removes_what_was_created(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.script[START] = [(404, {"message": "network x not found"})]
    engine.script[LIST] = [engine.inspected("created")]
    assert isinstance(await launch(compute), Rejected)
    assert [kind for kind in engine.calls if kind.startswith("DELETE")]


async def test_a_container_removed_before_its_start_is_requested_again(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.script[START] = [(404, {"message": "No such container"})]
    engine.script[LIST] = [(404, {"message": "No such container"})]
    assert type(await launch(compute)) is Unknown


async def test_a_name_whose_creation_is_under_way_elsewhere_is_waited_for(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.script[CREATE] = [(409, {"message": "Conflict"})]
    engine.script[LIST] = [(404, {"message": "No such container"}), engine.inspected("running")]
    answer = await launch(compute)
    assert isinstance(answer, Instance)
    assert answer.state is InstanceState.RUNNING
    assert engine.calls[CREATE] == 2
    assert engine.calls[START] == 0


async def test_an_exited_container_of_the_token_is_never_started(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.script[CREATE] = [(409, {"message": "Conflict"})]
    engine.script[LIST] = [engine.inspected("exited")]
    await launch(compute)
    assert engine.calls[START] == 0


async def test_another_launch_under_the_same_name_is_rejected(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.script[CREATE] = [(409, {"message": "Conflict"})]
    engine.script[LIST] = [engine.inspected("created", **{f"{LABEL}parameters": "others"})]
    assert isinstance(await launch(compute), Rejected)
    assert engine.calls[START] == 0


async def test_an_instance_that_the_engine_does_not_show_is_an_unknown_outcome(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.script["list"] = [(200, [])]
    assert type(await launch(compute)) is Unknown


async def test_the_engine_s_own_version_is_spoken_and_asked_for_again_when_it_is_refused(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    engine.version = "1.51"
    await compute.list_instances()
    assert "/v1.51/containers/json" in engine.paths
    engine.version = "1.41"
    refusal = {"message": "client version 1.51 is too new. Maximum supported API version is 1.41"}
    engine.script[CREATE].insert(0, (400, refusal))
    assert isinstance(await launch(compute), Throttled)
    assert isinstance(await launch(compute), Instance)
    assert engine.paths[-1] == "/v1.41/containers/json"
    assert engine.calls["ping"] == 2


async def test_a_batch_asks_for_one_list(engine: ScriptedEngine, compute: DockerCompute) -> None:
    await compute.launch(batch_of(*[REQUEST] * 20))
    assert engine.calls["list"] == 1


async def test_the_error_of_one_end_is_raised_and_the_others_are_ended(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    second = LABELS | {f"{LABEL}instance": "d-00000000000000002"}
    listed = engine.script["list"][0][1]
    assert isinstance(listed, list)
    listed.append({"Id": "c2", "State": "running", "Created": 1, "Labels": second})
    engine.script["POST kill"] = [(500, {"message": "no"}), (204, None)]
    with pytest.raises(Unknown):
        await compute.terminate([LABELS[f"{LABEL}instance"], "d-00000000000000002"])
    assert engine.calls["POST kill"] == 2


async def test_a_container_that_cannot_be_removed_keeps_its_instance_stopping(
    engine: ScriptedEngine, compute: DockerCompute
) -> None:
    instance_id = LABELS[f"{LABEL}instance"]
    ended = {"Id": "c1", "State": "exited", "Created": 1_750_000_000, "Labels": LABELS}
    job = {name: LABELS[name] for name in LABELS if name != f"{LABEL}role"}
    left = {"Id": "c9", "State": "running", "Created": 1_750_000_001, "Labels": job}
    engine.script["list"] = [(200, [ended, left])]
    engine.script[LIST] = [engine.inspected("exited")]
    engine.script["DELETE c9"] = [(500, {"message": "device busy"}), (204, None)]
    shown = (await compute.describe([instance_id]))[instance_id]
    assert (shown.state, shown.state_reason) == (
        InstanceState.STOPPING,
        "its container may be left",
    )
    shown = (await compute.describe([instance_id]))[instance_id]
    assert shown.state is InstanceState.TERMINATED


@pytest.mark.parametrize("state", ["exited", "created"])
async def test_one_busy_container_does_not_hide_the_others(
    engine: ScriptedEngine, compute: DockerCompute, state: str
) -> None:
    listed = {"Id": "c1", "State": state, "Created": 1_750_000_000, "Labels": LABELS}
    engine.script["list"] = [(200, [listed])]
    engine.script[LIST] = engine.script["HEAD archive"] = [(500, {"message": "busy"})]
    await compute.terminate([LABELS[f"{LABEL}instance"]])
    assert [each.state for each in await compute.list_instances()] == [InstanceState.STOPPING]


async def test_over_tcp_the_instance_gets_the_address_and_no_socket() -> None:
    engine = ScriptedEngine()
    async with serving(engine, None) as host:
        compute = DockerCompute("test", RealClock(), host=host)
        assert isinstance(await launch(compute), Instance)
        await compute.close()
    assert f"DOCKER_HOST={host}" in engine.bodies[CREATE]["Env"]
    assert engine.bodies[CREATE]["HostConfig"]["Mounts"] == []
