"""`GET /events`: every change of a job once, in the order of commits."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from operations.resend import settle
from services.api.changes.feed import PRUNE_SECONDS, ChangeFeed
from services.api.changes.store import ChangePage, ChangePosition
from services.api.jobs import decisions, unit_of_work
from services.api.jobs import store as job_store
from shared.clock import VirtualClock
from tests.support.api.api_world import World, message_of
from tests.support.api.event_stream import following, serving

HOUR = 3600


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(world) as client:
        yield client


def in_short(change: dict[str, Any]) -> tuple[int, str, str]:
    return change["id"], change["status"], change["phase"]


async def kept(world: World) -> list[int]:
    """Return the jobs of all changes that have a position, in order."""
    rows = await world.stage.rows("SELECT job_id FROM job_changes ORDER BY position")
    return [row["job_id"] for row in rows]


# -- what is a change


async def test_each_change_that_a_user_sees_is_one_event_with_its_reason(
    world: World, http: httpx.AsyncClient
) -> None:
    async with following(http) as events:
        await events.begun()
        agent = await world.running(name="nightly", labels={"team": "data"})
        await world.report(agent, lines=["one"])
        await world.call_back(agent, {})
        changes = await events.take(5)
    assert [in_short(each) for each in changes] == [
        (1, "SCHEDULED", "launching"),
        (1, "SCHEDULED", "booting"),
        (1, "SCHEDULED", "booting"),
        (1, "RUNNING", "running"),
        (1, "DONE", "done"),
    ]
    assert changes[3] == {
        "id": 1,
        "name": "nightly",
        "docker_image": "alpine",
        "labels": {"team": "data"},
        "status": "RUNNING",
        "phase": "running",
        "reason": "running on i-1-1 since 2026-01-01T00:00:00Z",
        "attempt": 1,
        "at": "2026-01-01T00:00:00Z",
    }
    assert [changes[place]["reason"] for place in (1, 2, 4)] == [
        "instance i-1-1 is booting",
        "instance i-1-1 has booted",
        "exited 0",
    ]


async def test_a_heartbeat_a_log_line_and_a_repeated_event_are_no_change(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    before = await world.stage.rows("SELECT * FROM new_job_changes")
    clock.advance(5)
    await world.report(agent)
    await world.report(agent, phase="running", lines=["one"])
    await world.report(agent, detail="a detail")
    await world.deliver(world.launched(agent.job_id))
    assert await world.stage.rows("SELECT * FROM new_job_changes") == before


async def test_a_reason_that_changes_is_a_change_and_a_later_check_of_it_is_none(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    async with following(http) as events:
        await events.begun()
        await world.deliver(world.delayed(job_id, message="no capacity"))
        clock.advance(60)
        await world.deliver(world.delayed(job_id, message="no capacity"))
        await world.deliver(world.delayed(job_id, message="the quota is used up"))
        first, second = await events.take(2)
    assert (first["phase"], first["reason"]) == ("waiting", "no capacity")
    assert (second["phase"], second["reason"]) == ("waiting", "the quota is used up")


# -- the order


async def cancel_without_commit(world: World, job_id: int, may_commit: asyncio.Event) -> set[str]:
    """Cancel a job in a transaction that stays open until *may_commit*; return its wake-ups."""
    async with world.ports.db.transaction() as tx:
        whole_job = await job_store.lock_whole_job(tx, job_id)
        assert whole_job is not None
        step = decisions.decide_cancel(whole_job, tx.now, 0.0, world.config.rules)
        assert step is not None
        await unit_of_work.save_and_publish(tx, whole_job, step)
        written.set()
        await may_commit.wait()
    return tx.wakes


written = asyncio.Event()


async def test_what_commits_late_is_read_behind_what_was_committed_before(
    world: World, http: httpx.AsyncClient
) -> None:
    early, late = (await world.post())["id"], (await world.post())["id"]
    may_commit = asyncio.Event()
    written.clear()
    async with following(http) as events:
        await events.begun()
        writing = asyncio.create_task(cancel_without_commit(world, early, may_commit))
        await written.wait()  # its row has the lower number
        await world.cancel(late)
        assert in_short((await events.take(1))[0]) == (late, "CANCELLED", "cancelled")
        may_commit.set()
        world.ports.wakeups.wake(*await writing)
        assert in_short((await events.take(1))[0]) == (early, "CANCELLED", "cancelled")


async def test_readers_at_once_number_each_change_once(world: World) -> None:
    jobs = [(await world.post())["id"] for _ in range(50)]
    feeds = [ChangeFeed(world.ports.db, timedelta(hours=1)) for _ in range(4)]
    ends = await asyncio.gather(*(feed.begin() for feed in feeds))
    assert {each.number for each in ends} == {50}
    assert await kept(world) == jobs
    start = ChangePosition(ends[0].epoch, 0)
    pages = await asyncio.gather(*(feed.read(start) for feed in feeds))
    assert [[each.job_id for each in page.changes] for page in pages] == [jobs] * 4


class CountingFeed(ChangeFeed):
    """A feed that counts its reads."""

    reads = 0

    async def _page(self, after: ChangePosition | None) -> ChangePage | None:
        self.reads += 1
        return await super()._page(after)


async def test_followers_who_are_woken_together_share_a_read(world: World) -> None:
    feed = CountingFeed(world.ports.db, timedelta(hours=1))
    start = await feed.begin()
    job_id = (await world.post())["id"]
    feed.reads = 0
    pages = await asyncio.gather(*(feed.read(start) for _ in range(100)))
    assert [each.job_id for page in pages for each in page.changes] == [job_id] * 100
    assert feed.reads == 2  # before the change had a position, and with it


async def test_followers_that_come_and_go_get_each_change_once_while_many_write(
    world: World, http: httpx.AsyncClient
) -> None:
    count = 60
    chosen = random.Random(7)

    async def write() -> None:
        for _ in range(count):
            job_id = (await world.post())["id"]
            await world.cancel(job_id)

    async def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        last_id = begun
        while len(found) < 3 * count * 2:
            async with following(http, last_id) as events:
                for _ in range(min(chosen.randint(1, 40), 3 * count * 2 - len(found))):
                    found += await events.take(1)
                last_id = events.last_id
        return found

    async with following(http) as events:
        begun = await events.begun()
    readers = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.gather(*(write() for _ in range(3)))
    seen = await asyncio.gather(*readers)
    in_order = await kept(world)
    assert [[each["id"] for each in found] for found in seen] == [in_order] * 4
    for job_id in set(in_order):
        own = [each["status"] for each in seen[0] if each["id"] == job_id]
        assert own == ["SCHEDULED", "CANCELLED"]


# -- where a follower goes on


async def test_a_follower_goes_on_after_the_last_id_that_it_has(
    world: World, http: httpx.AsyncClient
) -> None:
    async with following(http) as events:
        begun = await events.begun()
    jobs = [(await world.post())["id"] for _ in range(3)]
    async with following(http, begun) as events:
        assert [each["id"] for each in await events.take(2)] == jobs[:2]
        last_id = events.last_id
    async with following(http, after=last_id) as events:
        assert [each["id"] for each in await events.take(1)] == jobs[2:]
    # A browser repeats the parameter beside its header, which is newer.
    async with following(http, last_id, after=begun) as events:
        assert [each["id"] for each in await events.take(1)] == jobs[2:]


async def test_a_follower_that_wants_little_may_still_go_on_after_a_long_time(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    async with following(http, name="rare") as events:
        begun = await events.begun()
        await world.post(name="common")
        clock.advance(15)
        assert await events.comment() == ": still here"
        assert events.last_id != begun
        last_id = events.last_id
    async with following(http, last_id) as events:
        job_id = (await world.post(name="rare"))["id"]
        assert [each["id"] for each in await events.take(1)] == [job_id]


async def test_an_id_of_another_epoch_or_from_the_future_is_told_to_read_the_list_again(
    world: World, http: httpx.AsyncClient
) -> None:
    async with following(http) as events:
        epoch, _, number = (await events.begun()).partition(".")
    for unknown in (f"{epoch}.{int(number) + 1}", f"00000000.{number}"):
        async with following(http, unknown) as events:
            reset = await events.upcoming()
            assert (reset.name, reset.id) == ("reset", f"{epoch}.{number}")
            assert reset.data["message"].endswith("read the list again")


async def test_changes_are_kept_for_their_time_and_an_older_id_is_reset(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    async with following(http) as events:
        begun = await events.begun()
    await world.post()
    async with following(http, begun) as events:
        await events.take(1)
        last_id = events.last_id
    clock.advance(12 * HOUR)
    await world.post()
    await world.stage.sweep("number_changes")
    clock.advance(12 * HOUR + 1)
    assert await world.stage.sweep("prune_changes") is not None
    assert await world.stage.sweep("prune_changes") is None
    assert len(await kept(world)) == 1
    async with following(http, last_id) as events:
        assert (await events.upcoming()).name == "change"
    async with following(http, begun) as events:
        assert (await events.upcoming()).name == "reset"
        job_id = (await world.post())["id"]
        assert [each["id"] for each in await events.take(1)] == [job_id]
    assert PRUNE_SECONDS < HOUR


async def test_a_follower_that_is_too_slow_is_reset(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    """What is pruned between two reads is noticed by the second one."""
    async with following(http) as events:
        await events.begun()
        feed = ChangeFeed(world.ports.db, timedelta(hours=1))
        slow = await feed.begin()
        await world.post()
        await world.stage.sweep("number_changes")
        clock.advance(25 * HOUR)
        await world.stage.sweep("prune_changes")
        page = await feed.read(slow)
        assert (page.lost, page.changes) == (True, ())


async def test_after_a_restore_every_former_id_is_reset(
    fresh_world: World, database_url: str
) -> None:
    async with serving(fresh_world) as http:
        async with following(http) as events:
            begun = await events.begun()
        await fresh_world.post()
        await settle(database_url)
        for _ in range(3):  # the numbers reach the former ones
            await fresh_world.post()
        async with following(http, begun) as events:
            assert (await events.upcoming()).name == "reset"


# -- what a follower wants


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"name": "b"}, ["b"]),
        ({"image": "alpine:3"}, ["b"]),
        ({"label": "team:data"}, ["a", "b"]),
        ({"label": ["team:data", "of:b"]}, ["b"]),
        ({"label": ["team:data", "team:web"]}, []),
        ({"q": "ATA"}, ["a", "b"]),
        ({"q": "pine:3"}, ["b"]),
        ({"status": "cancelled,done"}, ["c"]),
        ({"status": ["SCHEDULED", "CANCELLED"], "name": "c"}, ["c", "c"]),
        ({"job": ["1", "3"]}, ["a", "c", "c"]),
    ],
    ids=str,
)
async def test_a_follower_gets_what_matches_all_of_its_filters(
    world: World, http: httpx.AsyncClient, wanted: dict[str, Any], found: list[str]
) -> None:
    async with following(http, **wanted) as events:
        await events.begun()
        await world.post(name="a", labels={"team": "data"})
        await world.post(name="b", labels={"team": "data", "of": "b"}, docker_image="alpine:3")
        last = (await world.post(name="c"))["id"]
        await world.cancel(last)
        assert [each["name"] for each in await events.take(len(found))] == found


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=1", "unknown parameter 'limit'"),
        ("since=1h", "unknown parameter 'since'"),
        ("job=a", "job must be the id of a job, like job=7"),
        ("job=0", "job must be the id of a job, like job=7"),
        ("after=1", "after must be the id of an event of this stream"),
        ("status=LOST", "status must be one of"),
        ("label=team", "label must be name:value"),
        ("name=a&name=b", "name is given 2 times: give it once"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(world: World, query: str, message: str) -> None:
    answer = await world.http.get(f"/events?{query}")
    assert answer.status_code == 400
    assert message_of(answer).startswith(message)


async def test_an_id_that_is_none_is_refused_and_a_head_comes_at_once(
    world: World, http: httpx.AsyncClient
) -> None:
    answer = await http.get("/events", headers={"Last-Event-ID": "1.2.end"})
    assert answer.status_code == 400
    assert message_of(answer) == "Last-Event-ID must be the id of an event of this stream"
    head = await http.head("/events")
    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    assert head.headers["cache-control"] == "no-cache"


async def test_the_changes_of_a_removed_record_are_gone(
    world: World, http: httpx.AsyncClient
) -> None:
    async with following(http) as events:
        begun = await events.begun()
    agent = await world.running()
    removed, left = agent.job_id, (await world.post())["id"]
    await world.call_back(agent, {})
    await world.deliver(world.terminated(removed))
    assert (await world.http.delete(f"/jobs/{removed}/record")).status_code == 204
    async with following(http, begun) as events:
        assert [each["id"] for each in await events.take(1)] == [left]
