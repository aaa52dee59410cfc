"""The whole life of a job on emulators of AWS that others have written: moto's server, ministack.

Our strict fake AWS and our code have the same authors, who may misread AWS twice. These emulators
were written from AWS's documents by others; where one of them does less than AWS (no price history,
no Spot requests, no user data on the instance), the system must do with what it gets.
"""

from collections.abc import Iterator

import pytest

from tests.support.emulators.emulated_world import (
    World,
    has_image,
    name_image,
    open_world,
    running,
    when_settled,
)
from tests.support.waiting import until

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(300)]


@pytest.fixture(params=["moto", "ministack"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Run the system on each emulator."""
    with open_world(request.param) as world:
        yield world


def waits_for_the_image(world: World) -> None:
    """A job waits without the parameter with the image's id, and runs when an image is named."""
    system = world.system
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "1"})

    def because() -> str:
        return str(system.job(job_id)["waiting_because"])

    until(lambda: "ParameterNotFound" in because(), what="the missing parameter is not named")
    assert "DOCKER_JOB_EC2_IMAGE_ID" in because()
    name_image(world)
    system.follow(job_id)
    assert when_settled(world, job_id)["status"] == "DONE"


def is_done(world: World) -> None:
    """A job is launched on Spot, runs, is done, and its instance is terminated."""
    job_id = world.system.schedule(env_vars={"SIMULATE_SECONDS": "1"})
    world.system.follow(job_id)
    job = when_settled(world, job_id)
    assert job["status"] == "DONE"
    assert [each["market"] for each in job["attempts"]] == ["spot"]


def survives_an_interruption(world: World) -> None:
    """A job whose instance is reclaimed is done on a second one."""
    job_id = world.system.schedule(env_vars={"SIMULATE_SECONDS": "4"})
    first = running(world.system, job_id)["instance_id"]
    world.machines.interrupt(first, 4)
    world.system.follow(job_id)
    job = when_settled(world, job_id)
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["interrupted", "done"]
    assert len({each["instance_id"] for each in job["attempts"]}) == 2


def is_cancelled(world: World) -> None:
    """A running job is cancelled, and its instance is terminated."""
    job_id = world.system.schedule(env_vars={"SIMULATE_SECONDS": "600"})
    running(world.system, job_id)
    assert world.system.http.delete(f"/jobs/{job_id}").status_code == 200
    assert when_settled(world, job_id)["status"] == "CANCELLED"


def survives_a_failed_boot(world: World) -> None:
    """An instance that never boots is given up after its time; the next one runs the job."""
    system = world.system
    world.machines.boots = False
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "1"})
    until(lambda: system.job(job_id)["attempt"] == 2, what="no second attempt", seconds=90)
    world.machines.boots = True
    system.follow(job_id)
    job = when_settled(world, job_id)
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["lost", "done"]


def test_the_whole_life_of_a_job(world: World) -> None:
    if not has_image(world.emulator):
        waits_for_the_image(world)
    is_done(world)
    survives_an_interruption(world)
    is_cancelled(world)
    survives_a_failed_boot(world)
    states = world.machines.states()
    assert [each for each, state in states.items() if state != "terminated"] == []
    letters = world.system.http.get("/deadletters").json()
    assert letters["total"] == 0, letters
