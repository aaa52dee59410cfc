"""A job's log as its readers get it, over the real HTTP server: text, followed, and its last lines.

`test_api_agents.py` shows what is kept of a log.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from services.api.logs.bounds import Amount, gap_line
from services.api.logs.reader import Start
from services.api.logs.store import LAST_ATTEMPT
from services.api.logs.tail import find_tail
from shared.clock import VirtualClock
from shared.postgres.pool import Connection
from tests.support.api.api_story import NOW
from tests.support.api.api_world import Agent, World, message_of
from tests.support.api.event_stream import serving

EACH_ITS_OWN = ("date", "transfer-encoding", "x-request-id")
"""The headers of an answer that differ from those of the next one."""

STOPPED = {"schedule": "", "stopped": True, "exit_code": 143}


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(world) as client:
        yield client


def path_of(agent: Agent, **parameters: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"/jobs/{agent.job_id}/logs?{query}".removesuffix("?")


async def text_of(http: httpx.AsyncClient, agent: Agent, **parameters: Any) -> str:
    answer = await http.get(path_of(agent, **parameters))
    assert answer.status_code == 200, answer.text
    return answer.text


class Events:
    """The events of one answer, as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last_id = ""
        self._lines = answer.aiter_lines()

    async def upcoming(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the next event's name and data; ("closed", []) behind the last one."""
        name, data = "message", []
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(json.loads(value))
            elif not line and data:
                return name, data
        return "closed", []

    async def comment(self) -> str:
        """Return the next line that is a comment."""
        return await anext(line async for line in self._lines if line.startswith(":"))

    async def texts(self) -> list[str]:
        """Return the texts of the next event."""
        return [line["text"] for line in (await self.upcoming())[1]]

    async def rest(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Return all further events; the answer must end."""
        events = []
        while (event := await self.upcoming())[0] != "closed":
            events.append(event)
        return events


@contextlib.asynccontextmanager
async def followed(
    http: httpx.AsyncClient, agent: Agent, last_id: str = "", **parameters: Any
) -> AsyncIterator[Events]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    path = path_of(agent, follow=1, **parameters)
    async with asyncio.timeout(30), http.stream("GET", path, headers=headers) as answer:
        yield Events(answer)


def gap_of(lines: int, size: int) -> str:
    """Return the line that stands for omitted lines."""
    return gap_line(NOW, Amount(size, lines)).text


async def second_attempt(world: World, agent: Agent) -> Agent:
    """End the agent's attempt by an interruption; return the agent of the next one."""
    await world.call_back(agent, STOPPED)
    return await world.claimed(agent.job_id, agent.attempt + 1)


# -- pieces of lines


async def test_a_prompt_shows_before_its_end_and_becomes_one_line(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["hello", {"text": "Name: ", "continues": "unfinished"}])
    assert await text_of(http, agent) == "hello\nName: \n"
    await world.report(agent, lines=["Ada", "bye"], seq=2)
    assert await text_of(http, agent) == "hello\nName: Ada\nbye\n"


async def test_progress_shows_its_last_state_alone(world: World, http: httpx.AsyncClient) -> None:
    agent = await world.running()
    states = [f"\r{percent}%" for percent in range(0, 100, 10)]
    for seq, text in enumerate(states, 1):
        await world.report(agent, lines=[{"text": text, "continues": "unfinished"}], seq=seq)
    assert (await text_of(http, agent)).strip() == "90%"
    await world.report(agent, lines=["\r100%", "done"], seq=11)
    assert (await text_of(http, agent)).strip() == "100%\ndone"


async def test_the_pieces_of_a_long_line_say_that_it_continues(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    pieces = [{"text": letter * 16_384, "continues": "split"} for letter in "abc"]
    await world.report(agent, lines=pieces)
    await world.report(agent, lines=["end", "next"], seq=2)
    lines = (await text_of(http, agent)).splitlines()
    assert [line[-20:] for line in lines] == [
        *(f"{letter * 3} [line continues]" for letter in "abc"),
        "end",
        "next",
    ]


async def test_a_follower_gets_each_piece_at_once_and_how_it_continues(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    async with followed(http, agent) as events:
        await world.report(agent, lines=[{"text": "1%", "continues": "unfinished"}])
        [line] = (await events.upcoming())[1]
        assert line.pop("at").startswith("2026-01-01T00:00:00")
        assert line == {"stream": "stdout", "text": "1%", "attempt": 1, "continues": "unfinished"}
        await world.report(agent, lines=["\r2%"], seq=2)
        [line] = (await events.upcoming())[1]
        assert (line["text"], line.get("continues")) == ("\r2%", None)


async def test_a_line_of_standard_error_stands_by_itself(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.report(
        agent,
        lines=[
            {"text": "working ", "continues": "unfinished"},
            {"text": "a warning", "stream": "stderr"},
            {"text": "on", "continues": "unfinished"},
            "ward",
        ],
    )
    assert await text_of(http, agent) == "working \na warning\nonward\n"
    assert await text_of(http, agent, stream="stdout") == "working onward\n"
    assert await text_of(http, agent, stream="stderr") == "a warning\n"
    assert await text_of(http, agent, streams=1) == (
        "stdout working \nstderr a warning\nstdout onward\n"
    )


async def test_a_row_has_its_pieces_as_lines_for_an_api_of_the_release_before(
    world: World,
) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="8")
    unfinished = {"text": "ab", "continues": "unfinished"}
    await bounded.report(agent, lines=[unfinished, "x" * 9, unfinished])
    await bounded.close()
    rows = await world.rows()
    for table in ("log_batches", "log_tails"):
        [row] = rows[table]
        assert [line[1:] for line in row["lines"]] == [["stdout", "ab"]]
        assert row["continues"] == "u"


# -- attempts


async def test_a_line_says_where_a_further_attempt_begins(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one", {"text": "stopp", "continues": "unfinished"}])
    assert await text_of(http, agent) == "one\nstopp\n"
    second = await second_attempt(world, agent)
    assert await text_of(http, agent) == "one\nstopp\n"
    await world.report(second, lines=["two"])
    assert await text_of(http, agent) == "one\nstopp\n--- attempt 2 ---\ntwo\n"
    async with followed(http, agent) as events:
        _, first = await events.upcoming()
        _, further = await events.upcoming()
    assert [(line["attempt"], line["text"]) for line in (*first, *further)] == [
        (1, "one"),
        (1, "stopp"),
        (2, "two"),
    ]


async def test_one_attempt_can_be_picked(world: World, http: httpx.AsyncClient) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"])
    await world.call_back(agent, STOPPED)
    assert await text_of(http, agent, attempt=2) == ""  # it has not begun
    second = await world.claimed(agent.job_id, 2)
    await world.report(second, lines=["two"])
    assert await text_of(http, agent, attempt=1) == "one\n"
    assert await text_of(http, agent, attempt=2) == "two\n"
    assert await text_of(http, agent, attempt=2, tail=5) == "two\n"
    assert await text_of(http, agent, attempt=1, tail=5) == "one\n"
    answer = await http.get(path_of(agent, attempt=3))
    assert answer.status_code == 404
    assert message_of(answer) == "job 1 has no attempt 3: it has attempts 1 to 2"
    async with followed(http, agent, attempt=1) as events:
        assert await events.rest() == [
            (
                "message",
                [
                    {"at": "2026-01-01T00:00:00+00:00", "stream": "stdout", "text": "one"}
                    | {"attempt": 1}
                ],
            ),
            (
                "end",
                [{"status": "SCHEDULED", "exit_code": 143, "attempt": 1, "cause": "interrupted"}],
            ),
        ]
        assert events.last_id == "1.1.end"
    async with followed(http, agent, attempt=2) as events:
        assert await events.texts() == ["two"]
        await world.call_back(second, {})
        [(name, [end])] = await events.rest()
        assert (name, end["status"], end["attempt"]) == ("end", "DONE", 2)


async def test_the_second_attempt_is_whole_after_the_first_has_filled_its_bound(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="100000")
    for seq in range(1, 21):
        await bounded.report(agent, lines=["x" * 99] * 100, seq=seq)
    await bounded.report(agent, lines=["RESULT=42"], seq=21)
    second = await second_attempt(world, agent)
    await bounded.report(second, lines=[f"line {number}" for number in range(1000)])
    first, _, further = (await text_of(http, agent)).partition("--- attempt 2 ---\n")
    assert first.endswith("\nRESULT=42\n")
    assert first.count("left out here") == 1
    assert further == "".join(f"line {number}\n" for number in range(1000))
    await bounded.close()


async def test_after_two_megabytes_the_last_line_is_there_and_one_line_says_what_is_not(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    texts = [f"{number:07d} " + "x" * 92 for number in range(20_000)]  # 101 bytes with its end
    for seq, first in enumerate(range(0, 20_000, 1000), 1):
        await world.report(agent, lines=texts[first : first + 1000], seq=seq)
    await world.report(agent, lines=["RESULT=42"], seq=21)
    lines = (await text_of(http, agent)).splitlines()
    [gap] = [index for index, line in enumerate(lines) if line.startswith("---")]
    left_out = 20_001 - (len(lines) - 1)
    assert lines[gap].startswith(f"--- {left_out} lines ({left_out * 101} bytes) left out here")
    assert lines[:gap] == texts[:gap]
    assert lines[gap + 1 :] == [*texts[gap + left_out :], "RESULT=42"]
    assert await text_of(http, agent, tail=1) == "RESULT=42\n"
    await world.call_back(agent, {})
    async with followed(http, agent) as events:
        seen = [line["text"] for _, data in (await events.rest())[:-1] for line in data]
    assert seen == lines


async def test_a_cut_within_a_line_ends_what_is_shown_of_it(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="40")
    pieces = [{"text": f"\r{number:07d}", "continues": "unfinished"} for number in range(10)]
    for seq, piece in enumerate(pieces, 1):
        await bounded.report(agent, lines=[piece], seq=seq)
    gap = (
        "--- 6 lines (54 bytes) left out here: of a long log the beginning and the end are kept ---"
    )
    assert await text_of(http, agent) == f"0000001\n{gap}\n0000009\n"
    async with followed(http, agent) as events:
        texts = [text for _ in range(4) for text in await events.texts()]
    assert texts == ["\r0000000", "\r0000001", gap, "\r0000008", "\r0000009"]
    await bounded.close()


# -- the last lines


async def test_the_last_lines_are_shown_and_then_what_comes(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    for seq in range(1, 31):
        await world.report(agent, lines=[f"{seq}.{line}" for line in range(10)], seq=seq)
    assert await text_of(http, agent, tail=3) == "30.7\n30.8\n30.9\n"
    assert (await text_of(http, agent, tail=100)).splitlines()[0] == "21.0"
    assert await text_of(http, agent, tail=0) == ""
    whole = await text_of(http, agent)
    for everything in ("all", 300, 301, 2**31 - 1):
        assert await text_of(http, agent, tail=everything) == whole
    async with followed(http, agent, tail=12) as events, followed(http, agent, tail=0) as fresh:
        assert await events.texts() == ["29.8", "29.9"]
        assert await events.texts() == [f"30.{line}" for line in range(10)]
        last_id = events.last_id
        await world.report(agent, lines=["new"], seq=31)
        assert await events.texts() == await fresh.texts() == ["new"]
    async with followed(http, agent, last_id, tail=12) as resumed:
        assert await resumed.texts() == ["new"]


async def test_last_lines_of_a_cut_log_and_of_several_attempts(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="20")
    await bounded.report(agent, lines=["a123456", *["x" * 30] * 9, "b12345", "c"])
    second = await second_attempt(world, agent)
    await bounded.report(second, lines=["d"])
    gap = gap_of(9, 279)
    whole = ["a123456", gap, "b12345", "c", "--- attempt 2 ---", "d"]
    assert (await text_of(http, agent)).splitlines() == whole
    shown = {1: whole[4:], 2: whole[3:], 3: whole[2:], 4: whole, 5: whole}
    for count, lines in shown.items():
        assert (await text_of(http, agent, tail=count)).splitlines() == lines
    await bounded.close()


class CountingConnection:
    """A connection that counts the rows that it loads."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.rows = 0

    async def fetch(self, *args: Any) -> Any:
        rows = await self._conn.fetch(*args)
        self.rows += len(rows)
        return rows


async def test_of_a_long_log_the_last_batches_are_read_and_no_more(world: World) -> None:
    agent = await world.running()
    for seq in range(1, 201):
        await world.report(agent, lines=["x"] * 10, seq=seq)
    async with world.ports.db.connection() as conn:
        counting = CountingConnection(conn)
        start = await find_tail(
            cast("Connection", counting),
            agent.job_id,
            15,
            whole=Start(),
            upto=LAST_ATTEMPT,
            stream=None,
        )
    assert start == Start(after=(1, 198), skip=5, within=1)
    assert counting.rows < 10
    assert (await world.http.get(path_of(agent, tail=15))).text == "x\n" * 15


# -- what is asked for


async def test_times_and_streams_stand_before_each_line(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"])
    clock.advance(1.5)
    await world.report(agent, lines=[{"text": "two", "stream": "stderr"}], seq=2)
    assert await text_of(http, agent, timestamps=1) == (
        "2026-01-01T00:00:00.000000Z one\n2026-01-01T00:00:01.500000Z two\n"
    )
    assert await text_of(http, agent, timestamps="true", streams="true", tail=1) == (
        "2026-01-01T00:00:01.500000Z stderr two\n"
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("attempt=0", "attempt must be the number of an attempt, like attempt=2"),
        ("attempt=last", "attempt must be the number of an attempt, like attempt=2"),
        ("attempt=", "attempt must be the number of an attempt, like attempt=2"),
        ("attempt=99999999999", "attempt must be the number of an attempt, like attempt=2"),
        ("tail=-1", "tail must be a whole number from 0 to 2147483647, or 'all'"),
        ("tail=1.5", "tail must be a whole number from 0 to 2147483647, or 'all'"),
        ("tail=%D9%A3", "tail must be a whole number from 0 to 2147483647, or 'all'"),
        ("tail=3000000000", "tail must be a whole number from 0 to 2147483647, or 'all'"),
        ("tail=ALL", "tail must be a whole number from 0 to 2147483647, or 'all'"),
        ("timestamps=yes", "timestamps must be 1 or 0: 1 puts its time before each line"),
        ("streams=2", "streams must be 1 or 0: 1 puts the name of its stream before each line"),
        ("stream=stdin", "stream must be one of stdout, stderr, docker-job"),
        ("follow=1&follow=1", "follow is given 2 times: give it once"),
        ("tail=1&tail=2", "tail is given 2 times: give it once"),
        (
            "since=1h",
            "unknown parameter 'since': use follow, attempt, tail, timestamps, streams or stream",
        ),
    ],
)
@pytest.mark.parametrize("form", ["", "&follow=1"])
async def test_a_wrong_parameter_is_refused_by_name(
    world: World, http: httpx.AsyncClient, query: str, message: str, form: str
) -> None:
    agent = await world.running()
    form = "" if "follow" in query else form
    answer = await http.get(f"/jobs/{agent.job_id}/logs?{query}{form}")
    assert answer.status_code == 400
    assert message_of(answer) == message
    head = await http.head(f"/jobs/{agent.job_id}/logs?{query}{form}")
    assert (head.status_code, head.content) == (400, b"")


async def test_two_ids_of_the_last_event_are_refused_and_an_empty_one_is_none(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"])
    await world.call_back(agent, {})
    twice = [("Last-Event-ID", "1.1"), ("Last-Event-ID", "1.1")]
    answer = await http.get(path_of(agent, follow=1), headers=twice)
    assert answer.status_code == 400
    assert message_of(answer) == "the header last-event-id is given 2 times: give it once"
    answer = await http.get(path_of(agent, follow=1), headers={"Last-Event-ID": ""})
    assert '"text":"one"' in answer.text


async def test_a_follower_of_one_stream_hears_of_the_answer_while_the_other_prints(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    """A proxy ends an answer of which it hears nothing, often after a minute."""
    agent = await world.running()
    async with followed(http, agent, stream="stderr") as events:
        await world.report(agent, lines=[{"text": "a warning", "stream": "stderr"}])
        assert await events.texts() == ["a warning"]
        for seq in range(2, 4):
            clock.advance(15)
            await world.report(agent, lines=["working"], seq=seq)
            assert await events.comment() == ": still here"
        await world.call_back(agent, {})
        assert [name for name, _ in await events.rest()] == ["end"]


# -- the end


async def test_a_browser_asks_until_it_gets_a_204(world: World, http: httpx.AsyncClient) -> None:
    """An EventSource connects again with the last id whenever an answer ends, but after a 204."""
    agent = await world.running()
    await world.report(agent, lines=["one"])
    await world.call_back(agent, {"failed": "", "error_message": "no", "exit_code": 3})
    seen: list[str] = []
    statuses: list[int] = []
    last_id = ""
    while not statuses or statuses[-1] == 200:
        async with followed(http, agent, last_id) as events:
            statuses.append(events.answer.status_code)
            seen += [name for name, _ in await events.rest()]
            last_id = events.last_id or last_id
    assert statuses == [200, 204]
    assert seen == ["message", "end"]
    assert last_id == "1.1.end"


async def test_who_has_the_last_lines_and_not_the_end_gets_the_end(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"])
    await world.report(agent, lines=["two"], seq=2)
    await world.call_back(agent, {})
    end = ("end", [{"status": "DONE", "exit_code": 0}])
    async with followed(http, agent, "1.2") as events:
        assert await events.rest() == [end]
    async with followed(http, agent, "1.1.end") as events:  # more came after that end
        assert (await events.texts(), await events.rest()) == (["two"], [end])
    async with followed(http, agent, "9.9.end") as events:
        assert events.answer.status_code == 204


async def test_the_end_of_a_running_job_is_no_end(world: World, http: httpx.AsyncClient) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"])
    async with followed(http, agent, "1.1.end") as events:
        await world.report(agent, lines=["two"], seq=2)
        assert await events.texts() == ["two"]


async def test_a_job_that_printed_nothing_has_an_end_too(
    world: World, http: httpx.AsyncClient
) -> None:
    job_id = (await world.post())["id"]
    await world.cancel(job_id)
    agent = Agent(job_id, 1, "")
    async with followed(http, agent) as events:
        assert await events.rest() == [("end", [{"status": "CANCELLED", "exit_code": None}])]
        last_id = events.last_id
    assert last_id == "0.0.end"
    async with followed(http, agent, last_id) as events:
        assert events.answer.status_code == 204


async def test_a_follower_of_a_cancelled_job_gets_its_last_lines_and_its_exit_code(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["working"])
    async with followed(http, agent) as events:
        assert await events.texts() == ["working"]
        await world.cancel(agent.job_id)
        await world.report(agent, lines=["cleaning up"], seq=2)
        assert await events.texts() == ["cleaning up"]
        await world.report(agent, lines=["bye"], seq=3)
        assert await events.texts() == ["bye"]
        await world.call_back(agent, {"failed": "", "exit_code": 7})
        assert await events.rest() == [("end", [{"status": "CANCELLED", "exit_code": 7}])]
        last_id = events.last_id
    assert await text_of(http, agent) == "working\ncleaning up\nbye\n"
    async with followed(http, agent, last_id) as events:
        assert events.answer.status_code == 204


async def test_the_end_waits_no_longer_than_the_stop_of_a_container(
    world: World, http: httpx.AsyncClient, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.cancel(agent.job_id)
    async with followed(http, agent) as events:
        clock.advance(19)  # the grace of 10 s, and 10 s in which the agent learns of it
        await world.report(agent, lines=["late"])
        assert await events.texts() == ["late"]
        clock.advance(2)
        assert await events.rest() == [("end", [{"status": "CANCELLED", "exit_code": None}])]


async def test_the_end_waits_for_no_container_whose_instance_is_terminated(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    await world.cancel(agent.job_id)
    async with followed(http, agent) as events:
        await world.report(agent, lines=["late"])
        assert await events.texts() == ["late"]
        await world.deliver(world.terminated(agent.job_id))
        assert await events.rest() == [("end", [{"status": "CANCELLED", "exit_code": None}])]


# -- heads and bytes


async def test_a_head_is_that_of_the_get(world: World, http: httpx.AsyncClient) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"])
    await world.call_back(agent, {})
    log = f"/jobs/{agent.job_id}/logs"
    end, wrong = {"Last-Event-ID": "1.1.end"}, {"Last-Event-ID": "x"}
    for path, headers, status in (
        (log, {}, 200),
        (f"{log}?tail=1&attempt=1", {}, 200),
        (f"{log}?follow=1", {}, 200),
        (f"{log}?follow=1", end, 204),
        (log, wrong, 400),
        (f"{log}?nothing=1", {}, 400),
        (f"{log}?attempt=2", {}, 404),
        ("/jobs/99/logs", {}, 404),
        ("/jobs/99/logs?follow=1", {}, 404),
    ):
        get = await http.get(path, headers=headers)
        head = await http.head(path, headers=headers)
        assert (get.status_code, head.status_code, head.content) == (status, status, b"")
        ours = [name for name in get.headers if name not in EACH_ITS_OWN]
        assert {name: head.headers.get(name) for name in ours} == {
            name: get.headers[name] for name in ours
        }
        if status < 400:
            assert head.headers["x-content-type-options"] == "nosniff"


async def test_a_head_of_a_log_that_goes_on_comes_at_once(
    world: World, http: httpx.AsyncClient
) -> None:
    agent = await world.running()
    async with asyncio.timeout(10):
        assert (await http.head(path_of(agent, follow=1))).status_code == 200


async def test_control_characters_are_data(world: World, http: httpx.AsyncClient) -> None:
    agent = await world.running()
    text = "\x1b[31mred\x1b[0m \x07 a\tb \x9b2J <script>\ufeff \u202e"
    await world.report(agent, lines=[text])
    answer = await http.get(path_of(agent))
    assert answer.content.decode() == f"{text}\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    async with followed(http, agent) as events:
        assert events.answer.headers["x-content-type-options"] == "nosniff"
        assert await events.texts() == [text]
