"""Pulls as requests from the machine's network: those that are refused, and what others show."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.api.submission.registries import LINK_LOCAL, LOOPBACK, PRIVATE, RegistryRules
from shared import tokens
from tests.integration.conftest import migrated_database
from tests.integration.test_agent import AgentProcess, FakeApi
from tests.integration.test_agent_docker import docker, running_docker
from tests.integration.test_agent_pulls import At
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, World, message_of
from tests.support.api.served_world import ServedWorld, served_world
from tests.support.servers.internal_service import ANSWERS, SECRET, InternalService
from tests.support.servers.slow_registry import ARCHITECTURES, PRINTED, SlowRegistry
from tests.support.waiting import until

COMPOSE = {"COMPUTE_URL": "docker://", "HOST": "0.0.0.0", "PUBLISHED_HOST": "127.0.0.1"}
REFUSED = list(RegistryRules((LOOPBACK, LINK_LOCAL, PRIVATE)).refused_networks)
ROUTES = ("/schedule", "/schedule one of two", "/plan", "rerun")


@pytest.fixture
def service() -> Iterator[InternalService]:
    with InternalService().serving() as serving:
        yield serving


def need_an_engine() -> None:
    if shutil.which("docker") is None or docker("version").returncode != 0:
        pytest.skip("no Docker engine answers on this machine")


@pytest.mark.parametrize("kind", ANSWERS)
def test_nothing_that_an_internal_service_answers_leaves_the_machine(
    service: InternalService, tmp_path: Path, kind: str
) -> None:
    need_an_engine()
    service.kind = kind
    api = FakeApi(docker_image=f"{service.host}/team/app:1")
    api.settings |= {"local_images": False, "pull_retry_seconds": 3}
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert service.calls, "the engine has not called"
    [reported] = api.callbacks
    assert reported["pull_failed"] is True
    sent = json.dumps([call.body for call in api.calls])
    echoes = [where for where in (sent, agent.log) if SECRET in where or str(service.port) in where]
    print(f"{kind}: {len(api.calls)} calls with {len(echoes)} echoes: {reported['error_message']}")
    assert echoes == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433"])
def test_an_agent_that_serves_others_asks_the_engine_for_nothing_of_its_own_machine(
    service: InternalService, tmp_path: Path, host: str
) -> None:
    need_an_engine()
    api = FakeApi(docker_image=f"{host}:{service.port}/team/app:1")
    refused: dict[str, object] = {
        "registries_refused": REFUSED,
        "registries_allowed": ["a.example"],
    }
    api.settings |= refused  # type: ignore[arg-type] # numbers alone elsewhere
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    print(f"{host}: {len(service.calls)} calls of the engine")
    assert service.calls == []
    [reported] = api.callbacks
    assert reported == {
        "failed": "",
        "error_message": "this deployment does not allow the registry: its address is in a refused "
        "network (see DOCKER_JOB_REGISTRIES_ALLOWED)",
        "pull_failed": True,
        "for_good": True,
    }


async def refusals(world: World, image: str) -> list[str]:
    """Return the message of each route that takes an image, empty if it is accepted."""
    earlier = (await world.post(docker_image="alpine"))["id"]
    good, bad = ({"docker_image": each, "scheduled_for": "now"} for each in ("alpine", image))
    answers = [
        await world.http.post("/schedule", json=bad),
        await world.http.post("/schedule", json=[good, bad]),
        await world.http.post("/plan", json=bad),
        await world.http.post(f"/jobs/{earlier}/rerun", json={"docker_image": image}),
    ]
    assert {each.status_code for each in answers} <= {200, 201, 400}
    return [message_of(each) if each.status_code == 400 else "" for each in answers]


async def test_every_route_that_takes_an_image_refuses_those_of_the_engines_machine(
    world: World,
) -> None:
    shared = world.again(**COMPOSE)
    hosts = ("localhost:5000", "[::1]:5000", "169.254.169.254", "10.0.0.5:5000", "postgres:5432")
    found = [each for host in hosts for each in await refusals(shared, f"{host}/a")]
    print(f"{sum(map(bool, found))} of {len(found)} requests with such an image refused")
    assert all("cannot be pulled: its registry" in each for each in found)
    await shared.close()


async def test_make_run_takes_a_registry_of_the_developers_machine(world: World) -> None:
    own = world.again(COMPUTE_URL="process://")
    assert await refusals(own, "localhost:5000/a") == [""] * len(ROUTES)
    assert (await own.http.get("/about")).json()["registries_refused"] == []
    await own.close()


OWN = {"COMPUTE_URL": "process://"}


@pytest.fixture(scope="module", params=[OWN], ids=["make run"])
def served(
    request: pytest.FixtureRequest, postgres_server: str, template_database: str
) -> Iterator[ServedWorld]:
    """Serve the API, as `make run` has it if the test does not say otherwise."""
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(
            database, HEARTBEAT_SECONDS="0.2", LOCAL_IMAGES="no", PULL_RETRY_SECONDS="0",
            PULL_BUDGET="0", PULL_BUDGET_SECONDS="0", PULL_REFUSED_BUDGET="0", **request.param
        ) as serving,
    ):  # fmt: skip
        yield serving


async def accept(world: World, image: str) -> int:
    """Schedule a job with *image* by an API that refuses no registry; return its id."""
    before = world.again(**OWN)
    job_id: int = (await before.post(docker_image=image))["id"]
    await before.close()
    return job_id


def run_agent(served: ServedWorld, image: str, directory: Path) -> tuple[int, AgentProcess]:
    """Run a job with *image* to its end; return its id and its agent.

    The job was accepted before the settings refused anything.
    """
    world, do = served.world, served.do
    job_id = do(accept(world, image))
    do(world.deliver(world.launched(job_id)))
    token = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, 1)
    env = {"DOCKER_JOB_JOB_ID": str(job_id), "DOCKER_JOB_BOOTSTRAP_TOKEN": token}
    env |= {"DOCKER_JOB_INSTANCE_ID": f"i-{job_id}-1", "DOCKER_JOB_RUNTIME": "docker"}
    agent = AgentProcess(At(served.base_url), directory, **env)
    try:
        until(lambda: do(world.status(job_id))["status"] in ("DONE", "FAILED"), 60)
        assert agent.wait() == 0
    finally:
        agent.process.kill()
    return job_id, agent


def test_no_answer_of_the_api_has_what_an_internal_service_answered(
    service: InternalService, served: ServedWorld, tmp_path: Path
) -> None:
    need_an_engine()
    service.kind = "error MANIFEST_UNKNOWN"
    job_id, _ = run_agent(served, f"{service.host}/team/app:1", tmp_path / "i")
    job = served.do(served.world.status(job_id))
    assert job["error_message"] == "the registry cannot serve the image: manifest unknown"
    paths = [f"/status/{job_id}", f"/jobs/{job_id}/logs", f"/jobs/{job_id}", "/jobs"]
    answers = [served.do(served.world.http.get(path)).text for path in paths]
    print(f"{sum(SECRET in each for each in answers)} of {len(answers)} answers have the banner")
    assert not any(SECRET in each for each in answers)


def test_a_registry_of_the_developers_machine_is_pulled_from_with_make_run(
    served: ServedWorld, tmp_path: Path
) -> None:
    need_an_engine()
    if platform.machine() not in ARCHITECTURES:
        pytest.skip("the image of the tests has no program for this machine")
    registry = SlowRegistry()
    image = registry.image.replace("127.0.0.1", "localhost")
    with registry.serving():
        job_id, _ = run_agent(served, image, tmp_path / "i")
    docker("image", "rm", "--force", image)
    assert served.do(served.world.status(job_id))["status"] == "DONE"
    assert PRINTED in served.do(served.world.logs(job_id))


@pytest.mark.parametrize("served", [COMPOSE], ids=["compose"], indirect=True)
def test_a_job_that_an_earlier_release_accepted_is_refused_by_its_agent(
    service: InternalService, served: ServedWorld, tmp_path: Path
) -> None:
    need_an_engine()
    job_id, _ = run_agent(served, f"localhost:{service.port}/team/app:1", tmp_path / "i")
    job = served.do(served.world.status(job_id))
    print(f"{len(service.calls)} calls of the engine: {job['error_message']}")
    assert service.calls == []
    assert job["error_message"].startswith("this deployment does not allow the registry: ")
    assert [each["cause"] for each in job["attempts"]] == ["pull_failed"]
