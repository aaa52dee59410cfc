"""Over HTTP: `/list`, its pages and filters, and that they stay fast."""

import asyncio
import itertools
import json
import random
import time
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.types import Message

from services.api.jobs import listing, search
from services.api.jobs.filters import Filters
from tests.support.api.api_world import World, message_of
from tests.support.api.many_jobs import fill, fill_unexpectedly, rows_read

PROMISED = {
    "id",
    "docker_image",
    "env_vars",
    "scheduled_for",
    "spot_instance_request_id",
    "error_message",
    "status",
}


async def listed(world: World, query: str = "") -> list[dict[str, Any]]:
    answer = await world.http.get(f"/list{query}")
    assert answer.status_code == 200, answer.text
    jobs: list[dict[str, Any]] = answer.json()
    return jobs


async def ids(world: World, query: str = "") -> list[int]:
    return [job["id"] for job in await listed(world, query)]


async def some_jobs(world: World, count: int, **fields: Any) -> list[int]:
    """Make *count* jobs; return their ids, newest first."""
    body = [{"docker_image": "alpine", "scheduled_for": "+1h", **fields}] * count
    answer = await world.http.post("/schedule", json=body)
    return [job["id"] for job in reversed(answer.json())]


async def test_no_jobs_are_an_empty_array(world: World) -> None:
    for query in ("", "?limit=all", "?status=DONE", "?label=a:b"):
        answer = await world.http.get(f"/list{query}")
        assert (answer.status_code, answer.text) == (200, "[]\n")
        assert "link" not in answer.headers


async def test_jobs_are_listed_newest_first_with_the_promised_fields(world: World) -> None:
    agent = await world.running(env_vars={"KEY": "VALUE"})
    await world.call_back(agent, {"failed": "", "error_message": "boom"})
    newer = await world.post()
    first, second = await listed(world)
    assert (first["id"], second["id"]) == (newer["id"], agent.job_id)
    assert first.keys() == second.keys() >= PROMISED
    assert isinstance(first["id"], int)
    assert first["id"] > 0
    assert second["env_vars"] == {"KEY": "VALUE"}
    assert second["scheduled_for"] == "2026-01-01T00:00:00Z"
    assert second["spot_instance_request_id"] == f"sir-{agent.job_id}-1"
    assert (second["status"], second["error_message"]) == ("FAILED", "boom")


async def test_the_status_of_a_job_has_every_field_of_the_list(world: World) -> None:
    await world.post()
    await world.post(scheduled_for="+90s", name="\u20ac", command=["a b", '"'], timeout_seconds=9)
    await world.post(env_vars={"KEY": '\\"'}, labels={"b": "1", "a": '"'}, retries=2)
    await world.post(
        resources={"instance_types": ["m7g.large"], "disk_gib": 50},
        capacity="spot_then_on_demand",
        spot_wait_seconds=60,
    )
    delayed = await world.post()
    await world.deliver(world.delayed(delayed["id"]))
    booting = await world.post()
    await world.deliver(world.launched(booting["id"]))
    agent = await world.running()
    await world.call_back(agent, {"failed": "", "error_message": "boom", "exit_code": 3})
    agent = await world.running()
    money = {"cost_usd", "wasted_usd", "on_demand_usd"}
    for shown in await listed(world):
        status = await world.status(shown["id"])
        assert shown.pop("attempts") == len(status["attempts"])
        if shown["started_at"] is not None and shown["finished_at"] is None:
            assert shown.pop("duration_seconds") <= status["duration_seconds"]
        assert {name: status[name] for name in shown} == shown
        assert status.keys() - shown.keys() <= {"attempts", "budgets", "duration_seconds", *money}


async def test_a_jobs_cost_is_the_sum_of_what_is_shown_of_its_attempts(world: World) -> None:
    """Each attempt's 0.0003214 USD is shown as 0.000321, and two are 0.000642, not 0.000643."""
    job_id = (await world.post(retries=1))["id"]
    for attempt in (1, 2):
        agent = await world.claimed(job_id, attempt)
        await world.call_back(agent, {"failed": "", "exit_code": 3})
        end = replace(world.terminated(job_id, attempt), cost_usd=0.0003214)
        await world.deliver(end)
    status, [shown] = await world.status(job_id), await listed(world)
    assert [each["cost_usd"] for each in status["attempts"]] == [0.000321, 0.000321]
    assert status["cost_usd"] == shown["cost_usd"] == 0.000642


async def test_pages_are_linked_to_the_end(world: World) -> None:
    expected = await some_jobs(world, 7, labels={"team": "a b&c"})
    await some_jobs(world, 2)
    path: str | None = "/list?limit=3&label=team:a%20b%26c&status=scheduled"
    found, pages = [], 0
    while path:
        answer = await world.http.get(path)
        found += [job["id"] for job in answer.json()]
        path = answer.links.get("next", {}).get("url")
        pages += 1
    assert (found, pages) == (expected, 3)


async def test_a_page_that_is_exactly_full_has_no_next(world: World) -> None:
    await some_jobs(world, 3)
    assert "link" not in (await world.http.get("/list?limit=3")).headers
    assert "link" in (await world.http.get("/list?limit=2")).headers


async def test_jobs_that_come_meanwhile_move_no_page(world: World) -> None:
    expected = await some_jobs(world, 4)
    first = await world.http.get("/list?limit=2")
    await some_jobs(world, 3)
    second = await world.http.get(first.links["next"]["url"])
    assert [job["id"] for job in first.json() + second.json()] == expected


async def test_jobs_are_filtered_by_status_and_by_labels(world: World) -> None:
    a = await some_jobs(world, 1, labels={"team": "a", "env": "x"})
    b = await some_jobs(world, 1, labels={"team": "b", "env": "x:y"})
    none = await some_jobs(world, 1)
    await world.cancel(a[0])
    for query, expected in [
        ("?status=CANCELLED", a),
        ("?status=cancelled", a),
        ("?status=SCHEDULED", none + b),
        ("?status=RUNNING", []),
        ("?label=team:a", a),
        ("?label=env:x", a),
        ("?label=env:x:y", b),
        ("?label=team:a&label=env:x", a),
        ("?label=team:a&label=env:x:y", []),
        ("?label=team:b&status=SCHEDULED", b),
        ("?label=team:a&status=SCHEDULED", []),
        ("?label=team:a&label=team:a", a),
        ("?label=team:a&label=team:b", []),
        ("?label=team:b&label=team:a&status=SCHEDULED", []),
        ("?label=team:", []),
        ("?label=%F0%9F%98%80:%F0%9F%98%80", []),
        (f"?cursor={b[0]}", a),
    ]:
        assert await ids(world, query) == expected, query
        if "cursor" not in query:
            whole = f"{query}&limit=all" if query else "?limit=all"
            assert await ids(world, whole) == expected, whole


ODD_LABELS = (
    *(
        "a b",
        "a+b",
        "a%20b",
        "a&b=c",
        "a#b",
        "a?b",
        "a/b",
        "a;b",
        "a,b",
        "a\nb\tc",
        '"a"',
        "'",
        "\\",
    ),
    *("%", "é☃😀", "\u202e", " ", "null", "{}", "label", "$1", "a" * 256, "😀" * 256),
)


@pytest.mark.parametrize("odd", ODD_LABELS)
async def test_a_label_of_any_characters_is_found(world: World, odd: str) -> None:
    """As its value, which may have colons too, and as its name."""
    labels = {odd: f"{odd[:127]}:{odd[:127]}", "other": "x"}
    [second, first] = await some_jobs(world, 2, labels=labels)
    await some_jobs(world, 1, labels={"other": "x"})
    query = httpx.QueryParams({"label": f"{odd}:{labels[odd]}", "limit": 1})
    page = await world.http.get(f"/list?{query}")
    assert [job["id"] for job in page.json()] == [second]
    assert page.json()[0]["labels"] == labels
    page = await world.http.get(page.links["next"]["url"])
    assert [job["id"] for job in page.json()] == [first]


async def test_a_label_that_could_not_be_found_again_is_refused(world: World) -> None:
    for name in ("a:b", ":", "a:", ":a"):
        body = {"docker_image": "alpine", "scheduled_for": "now", "labels": {name: "x"}}
        answer = await world.http.post("/schedule", json=body)
        assert answer.status_code == 400
        assert message_of(answer).startswith(f"labels has the name {name!r}: a name has no colon")


async def test_any_filters_find_what_matches_all_of_them(world: World) -> None:
    """Read page by page, where each of the filters has ids that the others have not."""
    draw = random.Random(7)
    names, values = ("a", "b"), ("x", "y")
    body = [
        {
            "docker_image": "alpine",
            "scheduled_for": "+1h",
            "labels": {
                name: draw.choice(values) for name in names if draw.random() < draw.choice((0.2, 1))
            },
        }
        for _ in range(300)
    ]
    jobs = [job["id"] for job in (await world.http.post("/schedule", json=body)).json()]
    cancelled = draw.sample(jobs, 40) + jobs[100:150]
    async with world.ports.db.connection() as conn:
        await conn.execute(
            "UPDATE jobs SET status = 'CANCELLED', finished_at = created_at WHERE id = ANY($1)",
            cancelled,
        )
    every = {job["id"]: job for job in await listed(world)}
    for status, a, b in itertools.product(("", "SCHEDULED", "CANCELLED"), ("", "x"), ("", "y")):
        wanted = {name: value for name, value in (("a", a), ("b", b)) if value}
        filters = [f"label={name}:{value}" for name, value in wanted.items()]
        filters += [f"status={status}"] if status else []
        found: list[int] = []
        path: str | None = f"/list?limit=17&{'&'.join(filters)}".rstrip("&")
        while path:
            answer = await world.http.get(path)
            found += [job["id"] for job in answer.json()]
            path = answer.links.get("next", {}).get("url")
        assert found == [
            job_id
            for job_id, job in every.items()
            if job["status"] == (status or job["status"])
            and wanted.items() <= job["labels"].items()
        ], filters


async def test_a_parameter_that_is_not_right_is_a_400_that_names_it(world: World) -> None:
    for query, named in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=0", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=9223372036854775808", "cursor"),
        ("limit=all&cursor=x", "cursor"),
        ("status=ENDED", "status"),
        ("status=", "status"),
        ("status=%00", "status"),
        ("status=%C5%BFCHEDULED", "status"),
        ("label=team", "label"),
        ("label=:x", "label"),
        ("label=", "label"),
        ("label=a:%00", "label must not hold a NUL character"),
        ("limits=1", "unknown parameter 'limits'"),
        ("%00=1", "unknown parameter"),
        ("&".join(f"label=n{number}:x" for number in range(51)), "label is given 51 times"),
    ]:
        answer = await world.http.get(f"/list?{query}")
        assert answer.status_code == 400, query
        assert message_of(answer).startswith(named)


async def test_an_attempt_that_followed_is_the_one_that_is_shown(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {"schedule": "", "stopped": True})
    await world.claimed(agent.job_id, 2)
    [job] = await listed(world)
    assert (job["attempt"], job["instance_id"]) == (2, f"i-{agent.job_id}-2")


# -- 100,000 jobs

STATUSES = ("SCHEDULED", "RUNNING", "DONE", "FAILED")
TEAMS = ("many", "rare", "nobody")


async def test_with_100_000_jobs_every_page_is_quick_and_read_by_an_index(
    fresh_world: World, database_url: str
) -> None:
    world = fresh_world
    await fill(database_url, 100_000)
    await _pages_use_indexes(world, search.LAST_ID)
    for query in (
        "",
        "?cursor=50000",
        "?status=DONE",
        "?status=RUNNING",
        "?status=FAILED",
        "?label=team:many",
        "?label=team:rare",
        "?label=team:nobody",
        "?status=SCHEDULED&label=team:rare",
        "?status=DONE&label=team:many&limit=10",
    ):
        seconds = []
        # Seven times: from the sixth on Postgres may use a plan made for any arguments.
        for _ in range(7):
            began = time.perf_counter()
            answer = await world.http.get(f"/list{query}")
            seconds.append(time.perf_counter() - began)
            assert answer.status_code == 200
        assert min(seconds[5:]) < 0.5, (query, seconds)
    assert len((await world.http.get("/list")).json()) == 1000


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_right_after_100_000_jobs_came_every_page_is_still_read_by_an_index(
    fresh_world: World, database_url: str, mode: str
) -> None:
    """Postgres assumes 1,000 waiting jobs, all with the one label that few have now."""
    await fill_unexpectedly(database_url, 100_000)
    await _pages_use_indexes(fresh_world, search.LAST_ID, mode)


async def test_no_page_is_planned_again_for_each_call_with_many_jobs(
    fresh_world: World, database_url: str
) -> None:
    """With many rows Postgres takes a plan of each call's own to be worth its planning."""
    await fill(database_url, 20_000)
    async with fresh_world.ports.db.connection() as conn:
        for statuses in (("RUNNING",), ("FAILED",), ()) * 4:
            await search.list_jobs(conn, Filters(statuses=statuses), 101)
        planned = "SELECT sum(custom_plans) AS n FROM pg_prepared_statements WHERE NOT from_sql"
        assert (await conn.fetchval(planned)) == 0


def args_of(last: int, limit: int, label: dict[str, str], *statuses: str) -> tuple[Any, ...]:
    block = search.SEVERAL if label and statuses else limit
    nothing = (None,) * 5
    return (last, limit, label, list(statuses), *nothing, block, search.MOST_READ, 1, None)


async def _pages_use_indexes(world: World, last: int, mode: str = "auto") -> None:
    for sql, args in [
        (listing.LIST_ALL, (last, 1001)),
        (listing.LIST_ALL, (50, 1001)),
        *((search.LIST_MATCHING, args_of(last, 1001, {}, status)) for status in STATUSES),
        (search.LIST_MATCHING, args_of(last, 1001, {}, "RUNNING", "SCHEDULED")),
        *((search.LIST_MATCHING, args_of(last, 1001, {"team": team})) for team in TEAMS),
        *(
            (search.LIST_MATCHING, args_of(last, 1001, {"team": team}, status))
            for team in TEAMS[1:]
            for status in STATUSES
        ),
    ]:
        assert await rows_read(world, mode, sql, *args) <= 3000, args  # a page, not the table
    for status in STATUSES:  # a block for each job that runs, of 50,000 with the label
        args = args_of(last, 101, {"team": "many"}, status)
        assert await rows_read(world, mode, search.LIST_MATCHING, *args) <= 6000, args


async def test_all_jobs_are_streamed_a_page_in_memory_at_a_time(
    fresh_world: World, database_url: str
) -> None:
    world = fresh_world
    await fill(database_url, 2750)
    chunks: list[bytes] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        chunks.append(message.get("body", b""))

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/list"}
    scope["headers"] = [(b"host", b"localhost")]
    scope |= {"query_string": b"limit=all", "asgi": {"version": "3.0"}, "http_version": "1.1"}
    await world.api.app(scope, receive, send)
    jobs = json.loads(b"".join(chunks))
    assert [job["id"] for job in jobs] == list(range(2750, 0, -1))
    assert b"".join(chunks).count(b"\n") == 2750  # a job a line
    assert max(chunk.count(b"\n") for chunk in chunks) == 500
    older = await world.http.get("/list?limit=all&cursor=3")
    assert [job["id"] for job in older.json()] == [2, 1]
