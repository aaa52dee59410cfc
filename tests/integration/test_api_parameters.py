"""Parameters and headers that a request gives twice, or that no route has."""

import httpx
import pytest

from services.api.http.headers import ONCE
from tests.support.api.api_world import World, message_of

ROUTES = (
    ("POST", "/schedule"),
    ("GET", "/list"),
    ("GET", "/status/{id}"),
    ("GET", "/jobs/{id}/logs"),
    ("DELETE", "/jobs/{id}"),
    ("DELETE", "/jobs/{id}/record"),
    ("POST", "/jobs/{id}/rerun"),
    ("GET", "/totals"),
    ("GET", "/stats"),
    ("GET", "/instances"),
    ("GET", "/about"),
    ("GET", "/openapi.json"),
)
JOB = '{"docker_image": "alpine", "scheduled_for": "now"}'


async def call(world: World, method: str, path: str) -> httpx.Response:
    content = JOB if method == "POST" else None
    return await world.http.request(method, path, content=content)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_parameter_that_the_route_does_not_have_is_named_and_changes_nothing(
    world: World, method: str, path: str
) -> None:
    job_id = (await world.post())["id"]
    before = await world.rows()
    for query in ("dry_run=1", "=", "Limit=1", "%6Cimits=1", "x"):
        answer = await call(world, method, f"{path.format(id=job_id)}?{query}")
        assert answer.status_code == 400, query
        assert message_of(answer).startswith("unknown parameter '")
    assert await world.rows() == before


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("/list?limit=1&limit=2", "limit is given 2 times: give it once"),
        ("/list?limit=1&limit=1", "limit is given 2 times: give it once"),
        ("/list?limit=all&%6Cimit=1", "limit is given 2 times: give it once"),
        ("/list?cursor=1&cursor=2", "cursor is given 2 times: give it once"),
        ("/list?q=a&q=b", "q is given 2 times: give it once"),
        ("/list?since=1h&since=1h", "since is given 2 times: give it once"),
        ("/totals?from=2026-01-01&from=2026-01-01", "from is given 2 times: give it once"),
        ("/totals?to=2026-01-01&to=", "to is given 2 times: give it once"),
        ("/jobs/1/logs?follow=1&follow=0", "follow is given 2 times: give it once"),
    ],
)
async def test_a_parameter_that_is_meant_once_is_given_once(
    world: World, query: str, message: str
) -> None:
    answer = await world.http.get(query)
    assert (answer.status_code, message_of(answer)) == (400, message)


async def test_a_label_may_be_given_more_than_once(world: World) -> None:
    await world.post(labels={"team": "data", "stage": "test"})
    answer = await world.http.get("/list?label=team:data&label=stage:test&&")
    assert (answer.status_code, len(answer.json())) == (200, 1)


@pytest.mark.parametrize("query", ["%", "%z1", "label=a:%2", "label=9%:a", "%ff=1", "label=%c3:a"])
async def test_a_query_that_is_no_percent_encoded_text_is_refused(world: World, query: str) -> None:
    answer = await world.http.get(httpx.URL("/list", query=query.encode()))
    assert answer.status_code == 400
    assert "the query" in message_of(answer)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_load_balancer_may_ask_for_health_as_it_likes(world: World, path: str) -> None:
    assert (await world.http.get(f"{path}?t=1&t=2&%")).status_code == 200


@pytest.mark.parametrize("name", sorted(name.decode() for name in ONCE))
async def test_a_header_that_is_meant_once_is_given_once(world: World, name: str) -> None:
    twice = [("Host", "localhost"), (name, "1"), (name.upper(), "1")]
    count = 2 + (name == "host")
    request = world.http.build_request("GET", "/list")
    request.headers = httpx.Headers(twice)
    answer = await world.http.send(request)
    assert answer.status_code == 400
    assert message_of(answer) == f"the header {name} is given {count} times: give it once"


async def test_other_headers_may_be_given_more_than_once(world: World) -> None:
    several = [("Accept", "a/b"), ("Accept", "*/*"), ("Cookie", "a=b"), ("Cookie", "c=d")]
    assert (await world.http.get("/list", headers=several)).status_code == 200


async def test_a_key_given_twice_schedules_nothing(world: World) -> None:
    answer = await world.http.post(
        "/schedule", content=JOB, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert answer.status_code == 400
    assert (await world.http.get("/list")).json() == []
