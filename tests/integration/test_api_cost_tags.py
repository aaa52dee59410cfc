"""Labels that become tags, from `POST /schedule` to the event of the attempt."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shared.clock import VirtualClock
from shared.events.events import JobScheduled
from shared.runtime.service import Ports
from tests.support.api.api_world import World, a_config


@pytest.fixture
async def world(
    ports_of: Callable[[str], Awaitable[Ports]], clock: VirtualClock
) -> AsyncIterator[World]:
    world = World(await ports_of("api"), clock, a_config(EC2_COST_TAGS="team,project"))
    yield world
    await world.close()


async def test_an_attempt_s_event_has_the_named_labels_and_no_other(world: World) -> None:
    labels = {"team": "data", "run": "a&b"}
    response = await world.http.post(
        "/schedule", json={"docker_image": "alpine", "scheduled_for": "now", "labels": labels}
    )
    assert response.status_code == 201, response.text
    [scheduled] = await world.stage.published(JobScheduled)
    assert scheduled.requirements.tags == {"team": "data"}
    assert scheduled.requirements.labels == {}
    status = await world.status(scheduled.job_id)
    assert status["labels"] == labels


async def test_a_value_that_can_be_no_tag_is_a_400_that_names_the_label(world: World) -> None:
    response = await world.http.post(
        "/schedule",
        json={"docker_image": "alpine", "scheduled_for": "now", "labels": {"project": "a&b"}},
    )
    assert response.status_code == 400
    assert "labels.project must have only letters, digits, spaces" in response.text
    assert await world.stage.published(JobScheduled) == []


@pytest.mark.parametrize(
    "name", ["docker-job:deployment", "docker-job:services", "docker-job:launch", "aws:team"]
)
async def test_a_label_named_like_a_tag_of_ours_or_of_aws_is_a_400(world: World, name: str) -> None:
    response = await world.http.post(
        "/schedule",
        json={"docker_image": "alpine", "scheduled_for": "now", "labels": {name: "x"}},
    )
    assert response.status_code == 400
    assert "colon" in response.text


async def test_a_label_called_name_is_found_by_it_and_is_no_tag(world: World) -> None:
    job = await world.post(labels={"Name": "mine", "team": "data"})
    [scheduled] = await world.stage.published(JobScheduled)
    assert scheduled.requirements.tags == {"team": "data"}
    found = (await world.http.get("/list?label=Name:mine")).json()
    assert [each["id"] for each in found] == [job["id"]]
