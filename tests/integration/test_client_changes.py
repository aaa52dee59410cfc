"""The changes of jobs on the real API: each once, whatever is cut; and waiting for jobs to end."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any

import pytest

from docker_job import Change, Client, DockerJobError, NotFound, Reset
from docker_job._sync.streams import Source, Stream
from docker_job.target import Target
from tests.support.api.api_world import Agent
from tests.support.api.served_world import ServedWorld
from tests.support.servers.cutting_wire import cutting_wire
from tests.support.waiting import until


def client_of(url: str) -> Client:
    return Client(target=Target(url, None))


async def play(served: ServedWorld, name: str, count: int) -> list[int]:
    """Run *count* jobs to their end; return their ids."""
    ids = []
    for _ in range(count):
        agent = await served.world.running(name=name)
        await served.world.call_back(agent, {})
        ids.append(agent.job_id)
    return ids


def beginning(served: ServedWorld) -> str:
    """Return the position behind all changes so far."""
    with client_of(served.base_url) as client:
        source = Source("/events", [])
        with closing(Stream(client._transport, source).events()) as events:
            return next(events).id


def first(client: Client, count: int, **filters: Any) -> list[Change | Reset]:
    """Return the first changes of a stream."""
    with closing(client.events(**filters)) as stream:
        return list(islice(stream, count))


@pytest.mark.parametrize("seed", range(3))
def test_changes_that_are_cut_at_any_byte_come_once_and_in_order(
    served: ServedWorld, seed: int
) -> None:
    after = beginning(served)
    name = f"cut-{seed}"
    ids = served.do(play(served, name, 8))
    chance = random.Random(seed)
    whole = first(client_of(served.base_url), 8 * 5, after=after, name=name)
    passes = [chance.randrange(0, 3000) for _ in range(10)]
    with cutting_wire(served.port, passes) as wire, client_of(wire.url) as client:
        found = first(client, len(whole), after=after, name=name)
        assert wire.cut > 0
    assert found == whole
    changes = [each for each in found if isinstance(each, Change)]
    assert len({each.position for each in changes}) == len(whole)
    assert [each.id for each in changes if each.is_over] == ids


def test_a_position_that_is_not_kept_is_answered_with_a_reset(served: ServedWorld) -> None:
    with client_of(served.base_url) as client:
        [reset] = first(client, 1, after="00000000.1")
    assert isinstance(reset, Reset)
    assert "list" in reset.message


def test_waiting_yields_each_job_once_as_it_ends(served: ServedWorld) -> None:
    async def start() -> list[Agent]:
        return [await served.world.running() for _ in range(3)]

    one, two, three = served.do(start())
    served.do(served.world.call_back(two, {}))
    with client_of(served.base_url) as client:
        over = client.wait([each.job_id for each in (one, two, three)])
        assert next(over).id == two.job_id
        served.do(served.world.call_back(three, {"failed": "", "exit_code": 3}))
        job = next(over)
        assert (job.id, job.status, job.exit_code) == (three.job_id, "FAILED", 3)
        served.do(served.world.cancel(one.job_id))
        assert [each.id for each in over] == [one.job_id]


def test_waiting_goes_on_over_a_cut_and_sees_what_ended_meanwhile(served: ServedWorld) -> None:
    agent = served.do(served.world.running())
    troubles: list[DockerJobError | None] = []

    def note(error: DockerJobError | None) -> None:
        troubles.append(error)
        if error is not None:
            served.do(served.world.call_back(agent, {}))

    with (
        cutting_wire(served.port) as wire,
        client_of(wire.url) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(lambda: list(client.wait([agent.job_id], on_trouble=note)))
        until(lambda: wire.connections == 2)  # the stream stands, and the job is looked at
        wire.cut_now()
        [job] = waiting.result(timeout=30)
    assert job.status == "DONE"
    assert [each is None for each in troubles] == [False, True]


def test_waiting_for_a_job_that_is_not_there_is_an_error(served: ServedWorld) -> None:
    with client_of(served.base_url) as client, pytest.raises(NotFound):
        list(client.wait([999_999]))
