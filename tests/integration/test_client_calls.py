"""The client's calls on the real API, of both halves."""

import asyncio
from collections.abc import Iterator

import pytest

from docker_job import (
    ApiError,
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    Job,
    NotFound,
    Unauthorized,
    Unreachable,
)
from docker_job.target import Target
from tests.integration.conftest import migrated_database
from tests.integration.test_api_keys import a_key
from tests.support.api.served_world import SERVED, ServedWorld, served_world
from tests.support.run.ports import free_port


@pytest.fixture
def client(served: ServedWorld) -> Iterator[Client]:
    with Client(target=Target(served.base_url, None)) as client:
        yield client


def schedule(client: Client, **fields: object) -> Job:
    return client.schedule({"docker_image": "alpine", "scheduled_for": "now", **fields})


def test_a_job_is_scheduled_shown_and_cancelled(client: Client) -> None:
    job = schedule(client, name="one", labels={"team": "data"})
    assert (job.docker_image, job.name, job.labels) == ("alpine", "one", {"team": "data"})
    assert job.scheduled_for is not None
    shown = client.status(job.id)
    assert (shown.status, shown.attempts[0].number) == ("SCHEDULED", 1)
    assert client.cancel(job.id).status == "CANCELLED"
    assert client.status(job.id).is_over


def test_the_same_idempotency_key_gives_the_same_job(client: Client) -> None:
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    first = client.schedule(body, idempotency_key="once")
    assert client.schedule(body, idempotency_key="once").id == first.id
    with pytest.raises(Conflict):
        client.schedule({**body, "name": "other"}, idempotency_key="once")


def test_many_jobs_are_scheduled_at_once_and_listed_page_by_page(client: Client) -> None:
    bodies = [{"docker_image": "alpine", "scheduled_for": "now", "labels": {"of": "many"}}] * 7
    ids = [each.id for each in client.schedule_many(bodies)]
    page = client.page(label="of:many", limit=3)
    assert [each.id for each in page.jobs] == ids[:-4:-1]
    assert page.next_cursor is not None
    listed = [each.id for each in client.list(label={"of": "many"}, limit=3)]
    assert listed == ids[::-1]


def test_errors_say_what_is_wrong_and_what_to_do(client: Client) -> None:
    with pytest.raises(BadRequest, match="docker_image"):
        client.schedule({"scheduled_for": "now"})
    with pytest.raises(NotFound, match="no job 999999"):
        client.status(999_999)
    job = schedule(client)
    client.cancel(job.id)
    with pytest.raises(Conflict):
        client.cancel(job.id)
    with pytest.raises(NotFound, match="The API has no /no-such-route") as caught:
        client._transport.send("GET", "/no-such-route")
    assert "older than this client" in caught.value.hint


def test_readiness_totals_and_the_id_of_an_id(client: Client) -> None:
    assert client.ready()["status"] in ("ready", "not ready")
    assert client.totals(first="1999-01-01", last="1999-01-02") == []
    assert client.find("7") == 7


def test_a_log_is_read_line_by_line(served: ServedWorld, client: Client) -> None:
    async def print_lines() -> int:
        agent = await served.world.running()
        lines = ["one", "two \u2028 still two\x0b", ""]
        assert (await served.world.report(agent, lines=lines)).status_code == 200
        return agent.job_id

    job_id = served.do(print_lines())
    assert list(client.logs(job_id)) == ["one", "two \u2028 still two\x0b", ""]
    assert list(client.logs(job_id, tail=1)) == [""]
    assert next(client.logs(job_id, timestamps=True, streams=True)).endswith("Z stdout one")
    with pytest.raises(NotFound, match="no attempt 5"):
        list(client.logs(job_id, attempt=5))


def test_the_asynchronous_half_does_the_same(served: ServedWorld) -> None:
    async def run() -> None:
        async with AsyncClient(target=Target(served.base_url, None)) as client:
            body = {"docker_image": "alpine", "scheduled_for": "now", "labels": {"half": "async"}}
            made = [(await client.schedule(body)).id for _ in range(3)]
            listed = [each.id async for each in client.list(label="half:async", limit=2)]
            assert listed == made[::-1]
            cancelled = await asyncio.gather(*(client.cancel(each) for each in made))
            assert [each.status for each in cancelled] == ["CANCELLED"] * 3
            with pytest.raises(NotFound):
                await client.status(999_999)

    asyncio.run(run())


def test_without_an_api_it_says_so_and_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        Client(target=Target(url, None), retries=0) as client,
        pytest.raises(Unreachable, match=f"Cannot reach {url}: connection refused") as caught,
    ):
        client.status(1)
    assert "make run" in caught.value.hint

    async def run() -> None:
        async with AsyncClient(target=Target(url, None), retries=0) as client:
            with pytest.raises(Unreachable, match="connection refused"):
                await client.status(1)

    asyncio.run(run())


def test_a_key_is_sent_and_its_scope_respected(
    postgres_server: str, template_database: str
) -> None:
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(database, **SERVED) as served,
    ):
        key = served.do(a_key(served.world, "read"))
        with Client(target=Target(served.base_url, key)) as client:
            assert list(client.list()) == []
            with pytest.raises(Unauthorized, match="scope") as caught:
                schedule(client)
            assert caught.value.status == 403
            assert "docker-job login" in caught.value.hint
        with Client(target=Target(served.base_url, None)) as client:
            with pytest.raises(Unauthorized) as caught:
                list(client.list())
            assert caught.value.status == 401
            with pytest.raises(ApiError):  # a stream too, and it is not tried again
                list(client.follow_logs(1))
