"""The client's calls of plans, reruns, statistics, instances and dead letters, on the real API."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from docker_job import BadRequest, Client, NotFound
from docker_job.queries import StatsFilters
from docker_job.target import Target
from tests.support.api.served_world import ServedWorld

JOB = {"docker_image": "alpine", "scheduled_for": "now"}


@pytest.fixture
def client(served: ServedWorld) -> Iterator[Client]:
    with Client(target=Target(served.base_url, None)) as client:
        yield client


def test_a_name_means_its_newest_job(client: Client) -> None:
    client.schedule({**JOB, "name": "twice"})
    newest = client.schedule({**JOB, "name": "twice"})
    assert client.find("twice") == newest.id
    with pytest.raises(NotFound, match="No job is named 'never'") as caught:
        client.find("never")
    assert "ps -a" in caught.value.hint


def test_the_list_is_filtered(client: Client) -> None:
    wanted = client.schedule({**JOB, "name": "wanted", "labels": {"of": "filters"}})
    client.cancel(client.schedule({**JOB, "name": "other", "labels": {"of": "filters"}}).id)
    found = client.list(label="of:filters", status=["SCHEDULED", "RUNNING"], q="want")
    assert [each.id for each in found] == [wanted.id]
    assert [each.id for each in client.list(label="of:filters", name="nobody")] == []
    with pytest.raises(BadRequest, match="since"):
        client.page(since="soon")


def test_a_job_is_run_again_with_other_fields(client: Client) -> None:
    old = client.schedule({**JOB, "name": "old", "labels": {"a": "b"}})
    new = client.rerun(old.id, {"name": "new"})
    assert (new.rerun_of, new.name, new.labels) == (old.id, "new", {"a": "b"})
    again = client.rerun(old.id, idempotency_key="once")
    assert client.rerun(old.id, idempotency_key="once").id == again.id
    with pytest.raises(NotFound):
        client.rerun(999_999)


def test_a_plan_schedules_nothing(client: Client) -> None:
    before = client.page(limit=1).jobs
    plan = client.plan({**JOB, "expected_seconds": 60})
    assert (plan.expected_seconds, plan.expected_from) == (60, "expected_seconds")
    assert plan.scheduled_for is not None
    assert plan.choices or plan.message
    assert client.page(limit=1).jobs == before
    with pytest.raises(BadRequest, match="docker_image"):
        client.plan({"scheduled_for": "now"})


def test_statistics_count_what_finished(client: Client) -> None:
    now = client.schedule(JOB).created_at  # the test's clock stands still
    assert now is not None
    asked: StatsFilters = {
        "since": now - timedelta(days=1),
        "until": now + timedelta(days=1),
        "by": "status",
    }
    before = client.stats(**asked).total.jobs
    client.cancel(client.schedule(JOB).id)
    stats = client.stats(**asked)
    assert stats.total.jobs == before + 1
    assert "CANCELLED" in [each.key for each in stats.groups]
    with pytest.raises(BadRequest, match="by"):
        client.stats(by="weather")


def test_an_instance_is_there_while_its_job_runs(served: ServedWorld, client: Client) -> None:
    agent = served.do(served.world.running(name="on an instance"))
    [found] = [each for each in client.instances() if each.job_id == agent.job_id]
    assert (found.job_name, found.attempt, found.market) == ("on an instance", 1, "spot")
    assert found.since is not None


def test_the_api_says_what_it_is(client: Client) -> None:
    about = client.about()
    assert about.version
    assert about.now is not None
    assert about.key is None


def test_there_are_no_dead_letters(client: Client) -> None:
    assert client.deadletters().letters == []
    for call in (client.deadletter, client.redrive, client.drop):
        with pytest.raises(NotFound):
            call("00000000-0000-0000-0000-000000000000")
