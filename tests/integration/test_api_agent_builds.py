"""The agents of several releases, by their hash.

A booting instance asks for one while the API is replaced, or two of its replicas differ.
"""

import hashlib
from datetime import timedelta

import pytest

from agent.build import build
from services.api.agents.agent_file import AgentFile
from services.api.agents.builds import KEEP_FOR, KEEP_LAST, AgentBuilds
from shared.clock import VirtualClock
from tests.support.api.api_world import World


def of_release(number: int) -> AgentFile:
    """Return the agent of another release."""
    content = b"PK the agent of release %d" % number
    return AgentFile(content, hashlib.sha256(content).hexdigest())


async def ran(world: World, file: AgentFile) -> None:
    """Record *file*, as a process of its release does at its start."""
    await AgentBuilds(world.ports.db, file).record_build()


async def served(world: World, sha256: str) -> bytes | None:
    answer = await world.http.get(f"/agent/builds/{sha256}")
    if answer.status_code == 404:
        assert answer.json()["message"]
        return None
    assert answer.status_code == 200
    return answer.content


async def test_a_build_is_served_by_its_hash_and_may_be_cached_for_good(world: World) -> None:
    digest = hashlib.sha256(build()).hexdigest()
    answer = await world.http.get(f"/agent/builds/{digest}")
    assert answer.content == build()
    assert answer.headers["x-docker-job-sha256"] == digest
    assert answer.headers["etag"] == f'"{digest}"'
    assert "immutable" in answer.headers["cache-control"]


async def test_the_agent_of_the_release_before_is_served_after_an_upgrade(world: World) -> None:
    before = of_release(1)
    await ran(world, before)
    assert await served(world, before.sha256) == before.content


async def test_replicas_of_two_releases_each_serve_both(world: World) -> None:
    await world.stage.sweep("record_build")
    other = of_release(2)
    await ran(world, other)
    assert await served(world, other.sha256) == other.content
    digest = hashlib.sha256(build()).hexdigest()
    found = await AgentBuilds(world.ports.db, other).find(digest)
    assert found.content == build()


@pytest.mark.parametrize("sha256", ["0" * 64, "0" * 63, "A" * 64, "agent.py", "..%2fclaim"])
async def test_an_unknown_hash_is_a_404_that_no_cache_keeps(world: World, sha256: str) -> None:
    answer = await world.http.get(f"/agent/builds/{sha256}")
    assert answer.status_code == 404
    assert answer.json()["message"]
    assert "immutable" not in answer.headers.get("cache-control", "")


async def test_a_build_that_comes_later_is_found_then(world: World) -> None:
    late = of_release(3)
    assert await served(world, late.sha256) is None
    await ran(world, late)
    assert await served(world, late.sha256) == late.content


async def test_old_builds_are_deleted_but_the_last_ones(world: World, clock: VirtualClock) -> None:
    releases = [of_release(number) for number in range(KEEP_LAST + 2)]
    for each in releases:
        await ran(world, each)
        clock.advance(60)
    clock.advance(KEEP_FOR.total_seconds())
    await world.stage.sweep("record_build")  # of this release, the last of them
    kept = {row["sha256"] for row in await world.stage.rows("SELECT sha256 FROM agent_builds")}
    last = {each.sha256 for each in releases[-(KEEP_LAST - 1) :]}
    assert kept == last | {hashlib.sha256(build()).hexdigest()}


async def test_a_build_is_kept_for_longer_than_any_boot(world: World, clock: VirtualClock) -> None:
    releases = [of_release(number) for number in range(KEEP_LAST + 2)]
    for each in releases:
        await ran(world, each)
    clock.advance(KEEP_FOR.total_seconds() - 1)
    await world.stage.sweep("record_build")
    for each in releases:
        assert await served(world, each.sha256) == each.content


async def test_a_build_that_runs_on_is_not_old(world: World, clock: VirtualClock) -> None:
    steady = of_release(1)
    for _ in range(3):
        await ran(world, steady)
        clock.advance((KEEP_FOR - timedelta(hours=1)).total_seconds())
    for number in range(2, 2 + KEEP_LAST):
        await ran(world, of_release(number))
    assert await served(world, steady.sha256) == steady.content
