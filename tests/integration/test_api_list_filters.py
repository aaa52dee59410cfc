"""Over HTTP: the filters of `/list`, alone and together, and that each page is quick."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.api.jobs import search
from services.api.jobs.filters import Filters
from shared.postgres.pool import Connection, connect
from tests.support.api.api_world import World, message_of
from tests.support.api.many_jobs import fill, fill_unexpectedly, rows_read

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Listed = dict[str, Any]


def at(minutes: float) -> datetime:
    return BEGIN + minutes * MINUTE


def written(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


async def pages(world: World, limit: int, **filters: Any) -> list[list[Listed]]:
    """Follow the links; each page has *limit* jobs at most."""
    found = []
    answer = await world.http.get("/list", params={"limit": limit, **filters})
    while True:
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        assert len(found[-1]) <= limit
        following = answer.links.get("next", {}).get("url")
        if following is None:
            return found
        answer = await world.http.get(following)


async def listed(world: World, limit: int = 7, **filters: Any) -> list[Listed]:
    """List page by page, and make sure that `limit=all` and HEAD agree."""
    jobs = [job for page in await pages(world, limit, **filters) for job in page]
    every = await world.http.get("/list", params={"limit": "all", **filters})
    assert [job["id"] for job in every.json()] == [job["id"] for job in jobs], filters
    head = await world.http.head("/list", params={"limit": limit, **filters})
    assert (head.status_code, head.content) == (200, b"")
    return jobs


async def ids(world: World, **filters: Any) -> list[int]:
    return [job["id"] for job in await listed(world, **filters)]


async def change(world: World, sql: str, *args: Any) -> None:
    async with world.ports.db.connection() as conn:
        await conn.execute(sql, *args)


async def different_jobs(world: World, count: int) -> list[Listed]:
    """Make jobs of which each has been accepted a minute after the one before; newest first."""
    draw = random.Random(11)
    body = [
        {
            "docker_image": draw.choice(("alpine", "alpine:3", "Acme/report".lower())),
            "scheduled_for": "+1h",
            "labels": {name: draw.choice(("x", "y")) for name in ("a", "b") if draw.random() < 0.6},
            "name": draw.choice((None, None, "nightly", "Nightly 2")),
        }
        for _ in range(count)
    ]
    jobs = (await world.http.post("/schedule", json=body)).json()
    await change(
        world,
        """
        UPDATE jobs SET created_at = $1::timestamptz + (id - $2) * interval '1 minute',
            status = CASE id % 5 WHEN 0 THEN 'DONE' WHEN 1 THEN 'FAILED' ELSE 'SCHEDULED' END,
            finished_at = CASE WHEN id % 5 < 2
                THEN $1::timestamptz + ((id * 37) % 50) * interval '1 minute' END,
            project = CASE WHEN id % 4 = 0 THEN 'data' ELSE 'default' END,
            logs_removed_at = CASE WHEN id % 10 < 2 THEN $1::timestamptz END
        """,
        BEGIN,
        jobs[0]["id"],
    )
    return await listed(world, 1000)


CHOICES: dict[str, tuple[Any, ...]] = {
    "status": ("DONE", "done,failed", ["FAILED", "SCHEDULED"], "RUNNING"),
    "label": ("a:x", ["a:x", "b:y"], "c:x"),
    "name": ("nightly", "Nightly 2", "night"),
    "image": ("alpine", "acme/report", "acme"),
    "q": ("NIGHT", "acme", "y", "1", "nowhere"),
    "since": (written(at(20)), written(at(90))),
    "until": (written(at(40)), written(at(10))),
    "by": ("created", "finished"),
    "project": ("data", "default", "nobody's"),
}


def matches(job: Listed, **filters: Any) -> bool:
    """Return whether the list should have *job*: in the plainest way."""
    statuses, labels = filters.get("status"), filters.get("label", [])
    if isinstance(statuses, str):
        statuses = statuses.split(",")
    pairs = [each.split(":") for each in ([labels] if isinstance(labels, str) else labels)]
    texts = [str(job["id"]), job["name"] or "", job["docker_image"], *job["labels"].values()]
    time = job["finished_at" if filters.get("by") == "finished" else "created_at"]
    return (
        (statuses is None or job["status"] in map(str.upper, statuses))
        and all(job["labels"].get(name) == value for name, value in pairs)
        and filters.get("name") in (None, job["name"])
        and filters.get("image") in (None, job["docker_image"])
        and filters.get("project") in (None, job["project"])
        and any(filters.get("q", "").lower() in text.lower() for text in texts)
        and time is not None
        and filters.get("since", "") <= time
        and time < filters.get("until", "9")
    )


async def test_any_filters_find_what_matches_all_of_them(world: World) -> None:
    jobs = await different_jobs(world, 60)
    draw = random.Random(5)
    one_each = [{name: value} for name, values in CHOICES.items() for value in values]
    several = [
        {name: draw.choice(CHOICES[name]) for name in draw.sample(list(CHOICES), k)}
        for k in (2, 2, 2, 3, 3, 4, 5, 6) * 8
    ]
    hits = 0
    for filters in one_each + several:
        expected = [job for job in jobs if matches(job, **filters)]
        if filters.get("by") == "finished":
            expected.sort(key=lambda job: (job["finished_at"], job["id"]), reverse=True)
        found = await listed(world, 7, **filters)
        assert [job["id"] for job in found] == [job["id"] for job in expected], filters
        hits += bool(expected)
    assert hits > 40


async def test_the_jobs_of_one_time_are_split_over_pages_by_their_ids(world: World) -> None:
    for _ in range(30):
        await world.post()
    jobs = await listed(world)
    await change(
        world,
        "UPDATE jobs SET status = 'DONE', finished_at = $1::timestamptz, logs_removed_at ="
        " CASE WHEN id % 3 = 0 THEN $1::timestamptz END",
        at(5),
    )
    found = await listed(world, 4, by="finished")
    assert [job["id"] for job in found] == [job["id"] for job in jobs]


async def test_an_age_is_a_time_before_now(world: World) -> None:
    first = await world.post()
    world.clock.advance(seconds=90 * 60)
    second = await world.post()
    for age, expected in (
        ("89m", [second]),
        ("90m", [second, first]),
        ("2h", [second, first]),
        ("1d", [second, first]),
        ("5400s", [second, first]),
        ("5399s", [second]),
        ("999999d", [second, first]),
    ):
        assert await ids(world, since=age) == [job["id"] for job in expected], age
    assert await ids(world, until="1h") == [first["id"]]
    assert await ids(world, since="2h", until="1h") == [first["id"]]
    assert await ids(world, since="1h", until="2h") == []


async def test_a_time_is_read_with_its_offset(world: World) -> None:
    job = await world.post()
    assert job["created_at"] == "2026-01-01T00:00:00Z"
    for time, is_before in (
        ("2026-01-01T00:00:00Z", True),
        ("2026-01-01t00:00z", True),
        ("2026-01-01T01:00:00+01:00", True),
        ("2026-01-01T01:00:00 01:00", True),  # a plus that was not percent-encoded
        ("2025-12-31T19:00:00-05:00", True),
        ("2026-01-01T00:00:00.000001Z", False),
        ("2026-01-01T00:00:00.0000019Z", False),
        ("2026-01-01T00:00:01+00:00", False),
        ("9999-12-31T23:59:59-23:59", False),
        ("0001-01-01T00:00:00+23:59", True),
    ):
        assert await ids(world, since=time) == ([job["id"]] if is_before else []), time
        assert await ids(world, until=time) == ([] if is_before else [job["id"]]), time


WRONG = (
    *("since=", "since=yesterday", "since=24", "since=24y", "since=-1h", "since=1234567890d"),
    *("since=2026-01-01", "since=2026-01-01T00:00:00", "since=2026-02-30T00:00:00Z"),
    *("since=2026-01-01T25:00:00Z", "until=now", "until=1.5h", "until=%00"),
    *("by=", "by=started", "by=Created"),
    *("q=", "q=%00", f"q={'x' * 257}", "name=", "name=a%00", f"name={'x' * 257}"),
    *("image=", "image=%00", f"image={'x' * 4097}"),
    *("status=DONE,", "status=,", "status=DONE,ended", "status=DONE&status=x"),
    *("cursor=1-1", "cursor=5&by=finished", "cursor=1-x&by=finished", "cursor=-&by=finished"),
    "cursor=999999999999999999-1&by=finished",
    "cursor=1-9999999999999999999&by=finished",
)


@pytest.mark.parametrize("query", WRONG)
async def test_a_filter_that_is_not_right_is_a_400_that_names_it(world: World, query: str) -> None:
    answer = await world.http.get(f"/list?{query}")
    assert answer.status_code == 400, query
    assert message_of(answer).startswith(f"{query.partition('=')[0]} must "), message_of(answer)


async def test_a_link_keeps_all_parameters(world: World) -> None:
    await different_jobs(world, 20)
    query = "q=a%26b%3D&status=done%2CFAILED&label=a%3Ax&since=999d&by=finished&limit=1"
    answer = await world.http.get(f"/list?{query.replace('a%26b%3D', 'alp')}")
    url = answer.links["next"]["url"]
    kept, _, cursor = url.partition("&cursor=")
    assert kept == f"/list?{query.replace('a%26b%3D', 'alp')}"
    assert cursor


async def test_a_page_ends_early_where_little_matches_and_the_next_goes_on(
    fresh_world: World, database_url: str
) -> None:
    """Of 24,000 jobs the oldest ones match; to find them is several pages' work."""
    world = fresh_world
    await fill(database_url, 24_000)
    await change(world, "UPDATE jobs SET name = 'Needle' WHERE id IN (3, 5, 7, 9, 11)")
    for filters, expected in (
        ({"q": "needle"}, [11, 9, 7, 5, 3]),
        ({"q": "needle", "status": "DONE"}, [11, 9, 7, 5, 3]),
        ({"by": "finished", "name": "Needle"}, [11, 9, 7, 5, 3]),
        ({"label": "team:many", "name": "job 9"}, []),
    ):
        found = await pages(world, 2, **filters)
        assert [job["id"] for page in found for job in page] == expected, filters
        assert await ids(world, **filters) == expected
    assert len(await pages(world, 2, q="needle")) > 4
    assert (await pages(world, 2, q="needle"))[0] == []


# -- 100,000 jobs

LAST = search.LAST_ID
SINCE, UNTIL = at(200), at(210)
FILTERS: dict[str, Filters] = {
    "a status": Filters(statuses=("DONE",)),
    "a rare status": Filters(statuses=("RUNNING",)),
    "several statuses": Filters(statuses=("RUNNING", "SCHEDULED", "FAILED")),
    "a label": Filters(labels=(("team", "many"),)),
    "a rare label": Filters(labels=(("team", "rare"),)),
    "a name": Filters(name="job 9"),
    "no name": Filters(name="x"),
    "an image": Filters(image="alpine"),
    "a rare image": Filters(image="rare"),
    "no image": Filters(image="x"),
    "a text": Filters(text="JOB"),
    "times": Filters(since=SINCE, until=UNTIL),
    "old times": Filters(until=SINCE),
    "times before all": Filters(until=BEGIN - MINUTE),
    "a rare image and an old time": Filters(image="rare", until=SINCE),
    "a common image and a rare label": Filters(image="alpine", labels=(("team", "rare"),)),
    "two common ones": Filters(image="alpine", labels=(("team", "many"),)),
    "two that no job has both of": Filters(image="rare", labels=(("team", "many"),)),
    "all": Filters(statuses=("DONE",), name="job 9", image="alpine", text="9", since=BEGIN),
    "finished": Filters(by="finished"),
    "finished at a time": Filters(by="finished", since=SINCE, until=UNTIL),
    "finished long ago": Filters(by="finished", until=SINCE),
    "a project": Filters(project="many"),
    "a rare project": Filters(project="rare"),
    "no project": Filters(project="x"),
    "a common status and a rare project": Filters(project="rare", statuses=("DONE",)),
    "a common label and a rare project": Filters(project="rare", labels=(("team", "many"),)),
    "finished, a rare project": Filters(by="finished", project="rare"),
    "finished, no project": Filters(by="finished", project="x"),
    "finished at a time, a rare project": Filters(
        by="finished", project="rare", since=SINCE, until=UNTIL
    ),
}


SEARCHED: dict[str, Filters] = {
    "a label that no job of the name has": Filters(labels=(("team", "many"),), name="job 9"),
    "no text": Filters(text="nowhere"),
    "a text in a label": Filters(text="nowhere", labels=(("team", "many"),)),
    "finished, a rare image": Filters(by="finished", image="rare"),
    "finished, no status": Filters(by="finished", statuses=("RUNNING",)),
}
"""Here the search ends at its bound."""


class Recorder:
    """A connection that keeps what is asked of it."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.asked: list[tuple[Any, ...]] = []

    async def fetch(self, *args: Any) -> Any:
        self.asked.append(args)
        return await self._conn.fetch(*args)

    async def fetchval(self, *args: Any) -> Any:
        self.asked.append(args)
        return await self._conn.fetchval(*args)


async def statements(world: World, filters: Filters, limit: int) -> list[tuple[Any, ...]]:
    async with world.ports.db.connection() as conn:
        recorder = Recorder(conn)
        await search.list_jobs(recorder, filters, limit)  # type: ignore[arg-type]
    return recorder.asked


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_right_after_100_000_jobs_came_every_filter_is_read_by_an_index(
    fresh_world: World, database_url: str, mode: str
) -> None:
    """Postgres assumes 1,000 jobs with other values in every column."""
    await fill_unexpectedly(database_url, 100_000)
    for name, filters in (FILTERS | SEARCHED).items():
        for asked in await statements(fresh_world, filters, 100):
            assert await rows_read(fresh_world, mode, *asked) <= 1.3 * search.MOST_READ, name


async def test_ten_times_as_many_jobs_make_no_page_read_more(
    fresh_world: World, database_url: str
) -> None:
    """Counted in pages of Postgres, which do not depend on the machine."""
    conn = await connect(database_url)
    few: dict[str, int] = {}
    for count in (10_000, 100_000):
        await conn.execute(
            "TRUNCATE api.jobs, api.attempts, api.job_labels RESTART IDENTITY CASCADE"
        )
        await fill(database_url, count)
        await conn.execute("VACUUM api.jobs, api.attempts, api.job_labels")
        for name, filters in (FILTERS | SEARCHED).items():
            asked = await statements(fresh_world, filters, 100)
            many = sum([await buffers(fresh_world, *each) for each in asked])
            least = A_PAGE if name in FILTERS else 3.2 * search.MOST_READ
            assert many <= max(1.2 * few.setdefault(name, many), least), name
    await conn.close()


A_PAGE = 2000
"""Postgres's pages that are read for 100 jobs which are found at once."""


async def buffers(world: World, sql: str, *args: Any) -> int:
    """Return how many pages of Postgres a statement has read."""
    async with world.ports.db.connection() as conn:
        text = await conn.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args)
    [plan] = json.loads(text)
    read: int = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    return read
