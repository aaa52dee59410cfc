"""The API that needs no key, and web pages that have their visitor's browser call it."""

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from agent.build import build
from services.api.keys import store as key_store
from services.api.keys.access import REMEMBER_SECONDS, make_key
from shared.clock import VirtualClock
from tests.support.api.api_world import World, message_of

JOB = '{"docker_image": "alpine", "scheduled_for": "now"}'
GUARDED = (
    ("GET", "/list"),
    ("GET", "/status/{id}"),
    ("GET", "/jobs/{id}/logs"),
    ("POST", "/schedule"),
    ("DELETE", "/jobs/{id}"),
    ("GET", "/openapi.json"),
)
OWN_BUILD = f"/agent/builds/{hashlib.sha256(build()).hexdigest()}"
OPEN_TO_ANY_HOST = ("/healthz", "/readyz", "/agent/agent.py", OWN_BUILD)
EVIL = {"Host": "evil.example"}
PAGES = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
)
"""What browsers add to the requests of pages of other origins, another port of localhost too."""


async def call(
    world: World, route: tuple[str, str], job_id: int, headers: dict[str, str]
) -> httpx.Response:
    """Return the route's answer for that job; a body is one that a page's form can send."""
    method, path = route
    content = JOB if method == "POST" else None
    return await world.http.request(
        method, path.format(id=job_id), content=content, headers=headers
    )


async def never_asked_for() -> AsyncIterator[bytes]:
    """Make a body that must not be read."""
    yield _read()


def _read() -> bytes:
    raise AssertionError("the body was read")


async def key_of(world: World, clock: VirtualClock) -> dict[str, str]:
    """Create the first API key, needed from now on; return its header."""
    key = make_key()
    async with world.ports.db.transaction() as tx:
        await key_store.insert_key(tx, key.prefix, "me", "admin", key.hashed)
    clock.advance(REMEMBER_SECONDS)
    return {"Authorization": f"Bearer {key.text}"}


@pytest.mark.parametrize("route", GUARDED, ids=str)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (EVIL, 421),
        ({**EVIL, "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
    ids=str,
)
async def test_what_a_page_may_have_sent_is_refused_and_changes_nothing(
    world: World, route: tuple[str, str], headers: dict[str, str], status: int
) -> None:
    job_id = (await world.post())["id"]
    before = await world.rows()
    answer = await call(world, route, job_id, headers)
    assert answer.status_code == status
    assert message_of(answer)
    assert await world.rows() == before


@pytest.mark.parametrize("route", GUARDED, ids=str)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "localhost:8000", "Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Content-Type": "application/x-www-form-urlencoded"},  # as `curl -d` sends it
    ],
    ids=str,
)
async def test_clients_of_this_machine_are_answered_as_before(
    world: World, route: tuple[str, str], headers: dict[str, str]
) -> None:
    job_id = (await world.post())["id"]
    assert (await call(world, route, job_id, headers)).status_code in (200, 201)


async def test_a_body_is_not_read_of_a_request_that_is_refused_for_its_host(world: World) -> None:
    answer = await world.http.post("/schedule", content=never_asked_for(), headers=EVIL)
    assert answer.status_code == 421


async def test_a_configured_host_is_answered(world: World) -> None:
    other = world.again(API_URL="http://api:8000", ALLOWED_HOSTS="jobs.example.com")
    for host, status in (
        ("api:8000", 200),
        ("jobs.example.com", 200),
        ("localhost", 200),
        ("evil.example", 421),
    ):
        answer = await other.http.get("/list", headers={"Host": host})
        assert answer.status_code == status, host
    await other.close()


async def test_agents_get_through_by_whatever_host_they_know(world: World) -> None:
    world.http.headers.update({"Host": "api:8000"})
    local = {"Host": "localhost", "Origin": "http://localhost"}
    answer = await world.http.post("/schedule", content=JOB, headers=local)
    agent = await world.claimed(answer.json()["id"])
    assert (await world.report(agent, phase="running", lines=["hello"])).status_code == 200
    assert (await world.call_back(agent, {})).status_code == 200


@pytest.mark.parametrize("path", OPEN_TO_ANY_HOST)
async def test_health_checks_and_the_agents_file_are_had_by_any_host(
    world: World, path: str
) -> None:
    assert (await world.http.get(path, headers=EVIL)).status_code == 200


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_where_a_key_is_needed_any_host_is_answered_and_a_page_may_only_read_with_it(
    world: World, clock: VirtualClock, route: tuple[str, str]
) -> None:
    job_id = (await world.post())["id"]
    key = await key_of(world, clock)
    before = await world.rows()
    method, _ = route
    for page in PAGES:
        without = await call(world, route, job_id, {**EVIL, **page})
        assert without.status_code == 403
        with_key = await call(world, route, job_id, {**EVIL, **page, **key})
        assert with_key.status_code == (200 if method == "GET" else 403)
        assert "access-control-allow-origin" not in with_key.headers
    assert await world.rows() == before
    assert (await call(world, route, job_id, {**EVIL, **key})).status_code in (200, 201)


@pytest.mark.parametrize("needs_key", [False, True])
async def test_no_route_is_called_by_a_page_of_another_origin(
    world: World, clock: VirtualClock, *, needs_key: bool
) -> None:
    agent = await world.running()
    key = await key_of(world, clock) if needs_key else {}
    before = await world.rows()
    sent = refused = 0
    for route in world.api.app.routes:  # type: ignore[attr-defined]
        path = route.path.format(id=agent.job_id, event_id=1, sha256="0" * 64, prefix="00000000")
        for method in route.methods:
            for page in PAGES:
                bearers = ({},) if method in ("GET", "HEAD") else ({}, agent.headers, key)
                for bearer in bearers:
                    answer = await world.http.request(
                        method, path, content=never_asked_for(), headers={**page, **bearer}
                    )
                    sent += 1
                    refused += answer.status_code == 403
                    assert not [name for name in answer.headers if "access-control" in name]
    print(f"{refused} of {sent} calls of pages refused, keys: {needs_key}")
    assert refused == sent > 200
    assert await world.rows() == before


@pytest.mark.parametrize("needs_key", [False, True])
async def test_no_preflight_is_granted(
    world: World, clock: VirtualClock, *, needs_key: bool
) -> None:
    """Of CORS (fetch.spec.whatwg.org) and of private networks (wicg.github.io)."""
    if needs_key:
        await key_of(world, clock)
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
        "Access-Control-Request-Private-Network": "true",
    }
    for path in ("/schedule", "/list", "/agent/claim", "/callback/1", "/nowhere"):
        for page in ({"Origin": "http://localhost"}, *PAGES):
            answer = await world.http.options(path, headers={**page, **asked})
            assert answer.status_code in (403, 404, 405)
            assert not [name for name in answer.headers if "access-control" in name]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_a_form_of_another_page_schedules_nothing_and_curl_does(
    world: World, clock: VirtualClock, kind: str
) -> None:
    for needs_key in (False, True):
        headers = {"Content-Type": kind, **(await key_of(world, clock) if needs_key else {})}
        for page in PAGES:
            answer = await world.http.post("/schedule", content=JOB, headers={**headers, **page})
            assert answer.status_code == 403
        assert (await world.http.post("/schedule", content=JOB, headers=headers)).status_code == 201
    assert len((await world.rows())["jobs"]) == 2


async def test_forwarded_names_are_never_read(world: World) -> None:
    for name, value in (
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "host=evil.example;proto=https"),
        ("X-Forwarded-Proto", "https"),
        ("X-Original-Host", "evil.example"),
    ):
        assert (await world.http.get("/list", headers={name: value})).status_code == 200
        for host in (EVIL, {"Host": "localhost", "Origin": "https://evil.example"}):
            local = {**host, name: "localhost"}
            assert (await world.http.get("/list", headers=local)).status_code in (403, 421)


async def test_a_page_of_the_apis_own_url_is_answered_though_a_proxy_ends_tls(
    world: World, clock: VirtualClock
) -> None:
    key = await key_of(world, clock)
    other = world.again(API_URL="https://jobs.example.com")
    for origin, status in (
        ("https://jobs.example.com", 201),
        ("https://jobs.example.com:443", 201),
        ("http://jobs.example.com:8443", 403),
        ("https://jobs.example.com.evil.example", 403),
    ):
        headers = {"Host": "jobs.example.com", "Origin": origin, **key}
        assert (
            await other.http.post("/schedule", content=JOB, headers=headers)
        ).status_code == status
    await other.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/list/"),
        ("GET", "/status/1/"),
        ("GET", "/jobs/1/logs/"),
        ("DELETE", "/jobs/1/"),
        ("POST", "/schedule/"),
        ("GET", "/healthz/"),
        ("GET", "/openapi.json/"),
        ("GET", "/agent/agent.py/"),
        ("POST", "/agent/claim/"),
        ("GET", "//list"),
        ("GET", "//evil.example/list"),
    ],
)
async def test_no_path_is_redirected_to_the_host_that_a_request_names(
    world: World, method: str, path: str
) -> None:
    url = f"http://localhost{path}"
    for headers in ({}, EVIL):
        answer = await world.http.request(method, url, headers=headers)
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert message_of(answer) == f"Not found: {path}"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/list", 200),
        ("GET", "/list?limit=all", 200),
        ("GET", "/jobs/{id}/logs", 200),
        ("GET", "/status/{id}", 200),
        ("GET", "/healthz", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/agent/agent.py", 200),
        ("GET", "/nowhere", 404),
        ("PATCH", "/list", 405),
        ("POST", "/schedule", 400),
        ("POST", "/agent/claim", 401),
        ("GET", "/list?x=1", 400),
    ],
)
async def test_no_browser_guesses_what_an_answer_is(
    world: World, method: str, path: str, status: int
) -> None:
    job_id = (await world.post())["id"]
    answer = await world.http.request(method, path.format(id=job_id))
    assert answer.status_code == status
    assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]


async def test_head_is_refused_as_get_is(world: World, clock: VirtualClock) -> None:
    job_id = (await world.post())["id"]
    await key_of(world, clock)
    for method, path in GUARDED:
        if method == "GET" and path != "/openapi.json":
            url = path.format(id=job_id)
            got, told = await world.http.get(url), await world.http.head(url)
            assert (told.status_code, told.headers) == (401, got.headers)
