"""What is lost on the way is asked for again: no job is made twice, no line lost or doubled."""

import asyncio
import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from docker_job import (
    ApiError,
    AsyncClient,
    Change,
    Client,
    DockerJobError,
    LogEnd,
    LogLine,
    Reset,
    UnexpectedAnswer,
    Unreachable,
)
from docker_job.target import Target
from tests.integration.conftest import migrated_database
from tests.support.api.api_world import Agent
from tests.support.api.served_world import SERVED, ServedWorld, served_world
from tests.support.run.ports import free_port
from tests.support.servers.cutting_wire import cutting_wire
from tests.support.servers.scripted_api import Answer, events, scripted_api
from tests.support.waiting import until

LINES = [f"line {number} ☃ {'x' * (number % 50)}" for number in range(60)]
JOB = '{"id": 7, "docker_image": "alpine", "status": "SCHEDULED", "attempts": []}'
NOT_NOW = Answer(503, '{"message": "the service is stopping"}', (("Retry-After", "0"),))


def client_of(url: str, *, retries: int = 3) -> Client:
    return Client(target=Target(url, None), retries=retries)


@pytest.fixture(scope="module")
def finished(served: ServedWorld) -> int:
    """Return a job that is over, with a log of many events."""

    async def run() -> int:
        agent = await served.world.running()
        for seq, start in enumerate(range(0, len(LINES), 3), start=1):
            answer = await served.world.report(agent, seq=seq, lines=LINES[start : start + 3])
            assert answer.status_code == 200, answer.text
        await served.world.call_back(agent, {"failed": "", "exit_code": 3})
        return agent.job_id

    return served.do(run())


def texts(items: list[LogLine | LogEnd]) -> list[str]:
    return [each.text for each in items if isinstance(each, LogLine)]


# -- requests


def test_a_job_whose_answer_was_lost_is_made_once(served: ServedWorld) -> None:
    with cutting_wire(served.port, [0, 0]) as wire, client_of(wire.url) as client:
        job = client.schedule({"docker_image": "a", "scheduled_for": "now", "name": "lost"})
        assert wire.cut == 2
        assert [each.id for each in client.list() if each.name == "lost"] == [job.id]


def test_a_job_whose_answer_was_cut_in_the_middle_is_made_once(served: ServedWorld) -> None:
    with cutting_wire(served.port, [300]) as wire, client_of(wire.url) as client:
        job = client.schedule({"docker_image": "a", "scheduled_for": "now", "name": "half"})
        assert wire.cut == 1
        assert [each.id for each in client.list() if each.name == "half"] == [job.id]


def test_an_array_whose_answer_was_lost_is_not_sent_again(served: ServedWorld) -> None:
    with cutting_wire(served.port, [0]) as wire, client_of(wire.url) as client:
        with pytest.raises(Unreachable):
            client.schedule_many(
                [{"docker_image": "a", "scheduled_for": "now", "name": "array"}] * 2
            )
        assert len([each for each in client.list() if each.name == "array"]) == 2


def test_a_503_is_asked_again_with_the_same_key_and_body() -> None:
    with scripted_api(NOT_NOW, NOT_NOW, Answer(201, JOB)) as api, client_of(api.url) as client:
        assert client.schedule({"docker_image": "alpine", "scheduled_for": "now"}).id == 7
        assert len(api.seen) == 3
        assert len({(each.body, each.headers["Idempotency-Key"]) for each in api.seen}) == 1


def test_a_503_that_stays_is_an_error_that_says_what_to_do() -> None:
    with scripted_api(NOT_NOW) as api, client_of(api.url, retries=1) as client:
        with pytest.raises(ApiError, match="the service is stopping") as caught:
            client.status(7)
        assert (caught.value.status, len(api.seen)) == (503, 2)
        assert "doctor" in caught.value.hint


def test_a_429_is_asked_again_after_the_time_that_it_says() -> None:
    too_many = Answer(429, '{"message": "too many requests"}', (("Retry-After", "0"),))
    with scripted_api(too_many, Answer(200, JOB)) as api, client_of(api.url) as client:
        assert client.status(7).id == 7


def test_what_is_no_answer_of_the_api_is_an_error_and_no_job() -> None:
    page = Answer(200, "<html>", (("Content-Type", "text/html"),))
    for answer in (page, Answer(200, "[]"), Answer(200, '{"id": 7}')):
        with scripted_api(answer) as api, client_of(api.url) as client:
            with pytest.raises(UnexpectedAnswer):
                client.status(7)
            if answer is page:
                with pytest.raises(UnexpectedAnswer):
                    list(client.follow_logs(7))


def test_an_error_of_a_proxy_that_is_not_json_is_an_api_error() -> None:
    page = Answer(502, "<html>Bad Gateway</html>", (("Content-Type", "text/html"),))
    with (
        scripted_api(page) as api,
        client_of(api.url, retries=0) as client,
        pytest.raises(ApiError, match="HTTP 502 Bad Gateway"),
    ):
        client.status(7)


def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    moved = Answer(301, "", (("Location", "https://jobs.example/status/7"),))
    with scripted_api(moved) as api, Client(target=Target(api.url, "djk_1")) as client:
        with pytest.raises(ApiError, match=r"redirects to https://jobs\.example/status/7"):
            client.status(7)
        with pytest.raises(ApiError, match="redirects"):
            list(client.follow_logs(7))
        assert len(api.seen) == 2


# -- streams


@pytest.mark.parametrize("seed", range(4))
def test_a_log_that_is_cut_at_any_byte_has_each_line_once(
    served: ServedWorld, finished: int, seed: int
) -> None:
    chance = random.Random(seed)
    passes = [chance.randrange(0, 2500) for _ in range(12)]
    troubles: list[DockerJobError | None] = []
    with cutting_wire(served.port, passes) as wire, client_of(wire.url) as client:
        *lines, end = client.follow_logs(finished, on_trouble=troubles.append)
        assert wire.cut > 0
    assert texts(lines) == LINES
    assert isinstance(end, LogEnd)
    assert (end.status, end.exit_code) == ("FAILED", 3)
    assert len([each for each in troubles if each is not None]) == wire.cut
    assert troubles[-1] is None


def test_a_cut_log_has_each_line_once_asynchronously(served: ServedWorld, finished: int) -> None:
    async def run() -> list[LogLine | LogEnd]:
        with cutting_wire(served.port, [900, 1100, 1300, 0]) as wire:
            async with AsyncClient(target=Target(wire.url, None)) as client:
                found = [each async for each in client.follow_logs(finished)]
            assert wire.cut == 4
            return found

    assert texts(asyncio.run(run())) == LINES


def test_a_log_goes_on_behind_the_line_that_one_has(served: ServedWorld, finished: int) -> None:
    with client_of(served.base_url) as client:
        *lines, end = client.follow_logs(finished)
        place = next(each.id for each in lines if isinstance(each, LogLine) and each.id)
        behind = texts(list(client.follow_logs(finished, after=place)))
        assert behind == LINES[-len(behind) :]
        assert len(behind) == len(LINES) - 3
        assert list(client.follow_logs(finished, after=end.id)) == []  # 204
        assert texts(list(client.follow_logs(finished, tail=2))) == LINES[-2:]


def test_a_follower_goes_on_where_a_replica_takes_the_place_of_the_api(
    postgres_server: str, template_database: str
) -> None:
    found: list[LogLine | LogEnd] = []

    def follow(url: str) -> None:
        with client_of(url) as client:
            for each in client.follow_logs(1):
                found.append(each)  # noqa: PERF402 - seen from the other thread as it comes

    async def report(served: ServedWorld, agent: Agent, seq: int) -> None:
        start = 3 * (seq - 1)
        answer = await served.world.report(agent, seq=seq, lines=LINES[start : start + 3])
        assert answer.status_code == 200, answer.text

    with (
        migrated_database(postgres_server, template_database) as database,
        ThreadPoolExecutor(1) as pool,
        ExitStack() as stack,
    ):
        first = stack.enter_context(served_world(database, **SERVED))
        agent = first.do(first.world.running())
        with cutting_wire(first.port) as wire:
            following = pool.submit(follow, wire.url)
            first.do(report(first, agent, 1))
            until(lambda: len(found) == 3)
            stack.close()  # from here on nothing listens
            wire.cut_now()
            with served_world(database, **SERVED) as second:
                for seq in range(2, 21):
                    second.do(report(second, agent, seq))
                wire.lead_to(second.port)
                second.do(second.world.call_back(agent, {}))
                following.result(timeout=60)
    assert texts(found) == LINES
    assert isinstance(found[-1], LogEnd)


def test_a_stream_that_is_away_for_longer_than_patience_is_an_error() -> None:
    with (
        client_of(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(Unreachable, match="connection refused"),
    ):
        list(client.follow_logs(7, patience_seconds=0.3))


def test_a_stream_outlives_a_503_and_sends_the_id_of_its_last_whole_event() -> None:
    first = events('id: 1.1\ndata: {"text": "a"}\n\nid: 1.2\ndata: {"te')
    last = events('id: 1.2\ndata: {"text": "b"}\n\nid: 1.2.end\nevent: end\ndata: {}\n\n')
    with scripted_api(first, NOT_NOW, last) as api, client_of(api.url) as client:
        assert texts(list(client.follow_logs(7))) == ["a", "b"]
        assert [each.headers.get("Last-Event-ID") for each in api.seen] == [None, "1.1", "1.1"]


def test_changes_are_resumed_from_the_position_that_came_first() -> None:
    change = {"id": 7, "docker_image": "a", "status": "DONE", "phase": "done"}
    first = events("id: 9-1\n\n")
    second = events(
        f"id: 9-2\nevent: change\ndata: {json.dumps(change)}\n\n",
        'id: 9-3\nevent: reset\ndata: {"message": "read the list again"}\n\n',
    )
    with scripted_api(first, second) as api, client_of(api.url) as client:
        stream = client.events(job=[7, 8], status="DONE", label={"team": "data"})
        found = [next(stream), next(stream)]
        stream.close()
        assert [type(each) for each in found] == [Change, Reset]
        assert api.seen[0].path == "/events?job=7&job=8&status=DONE&label=team%3Adata"
        assert api.seen[1].headers["Last-Event-ID"] == "9-1"


def test_waiting_looks_at_jobs_once_the_stream_stands_and_when_they_end() -> None:
    running = Answer(200, JOB.replace("SCHEDULED", "RUNNING"))
    done = Answer(200, JOB.replace("SCHEDULED", "DONE"))
    stream = events(
        "id: 9-1\n\n",
        'id: 9-2\nevent: change\ndata: {"id": 7, "status": "RUNNING"}\n\n',
        'id: 9-3\nevent: change\ndata: {"id": 7, "status": "DONE"}\n\n',
    )
    with scripted_api(stream, running, done) as api, client_of(api.url) as client:
        assert [each.status for each in client.wait([7])] == ["DONE"]
        assert [each.path for each in api.seen] == ["/events?job=7", "/status/7", "/status/7"]


def test_a_stream_that_is_left_closes_its_connection(served: ServedWorld, finished: int) -> None:
    with cutting_wire(served.port) as wire, client_of(wire.url) as client:
        stream = client.follow_logs(finished)
        next(stream)
        stream.close()
        pool = client._transport._http._transport
        assert getattr(pool, "_pool").connections == []  # noqa: B009 - httpx's own
