"""A job is followed with whatever its API can do, and to whatever end it comes to."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest

from docker_job import AsyncClient
from docker_job.cli import following
from docker_job.cli.following import Following
from docker_job.cli.interrupts import Interrupts, Wish
from docker_job.cli.screen import Screen
from docker_job.documents import Change, Job, LogEnd, LogLine
from docker_job.errors import Conflict, NotFound, Unreachable
from docker_job.reading import read

NO_JOB = NotFound(404, "there is no job 7")


def document(phase: str, status: str = "SCHEDULED", **fields: Any) -> Job:
    """Make the document of job 7 with one attempt in *phase*."""
    entered = ["scheduled"] if phase == "scheduled" else ["scheduled", "running"]
    attempt = {
        "number": 1,
        "phase": phase,
        "instance_type": "c7i.large",
        "phases": [{"phase": each, "entered_at": "", "seconds": 1.0} for each in entered],
    }
    return read(
        Job,
        {
            "id": 7,
            "docker_image": "alpine",
            "status": status,
            "phase": phase,
            "attempt": 1,
            "attempts": [attempt],
            **fields,
        },
    )


SCHEDULED, RUNNING = document("scheduled"), document("running", "RUNNING")
DONE = document("ended", "DONE", exit_code=0)


class Scripted:
    """The calls that are used of a client; each answer is taken once, the last one for ever."""

    def __init__(
        self, log: Iterable[LogLine | LogEnd | asyncio.Event], statuses: Iterable[Job | Exception]
    ) -> None:
        self.log = list(log)
        self.statuses = list(statuses)
        self.asked = 0
        self.cancelled = 0
        self.changes: list[asyncio.Event] | None = None

    async def status(self, _job_id: int) -> Job:
        self.asked += 1
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel(self, job_id: int) -> Job:
        self.cancelled += 1
        raise Conflict(409, f"job {job_id} is already DONE and cannot be cancelled")

    async def follow_logs(self, _job_id: int, **_more: Any) -> AsyncIterator[LogLine | LogEnd]:
        for each in self.log:
            if isinstance(each, asyncio.Event):
                await each.wait()
            else:
                yield each

    async def events(self, **_more: Any) -> AsyncIterator[Change]:
        if self.changes is None:
            raise NotFound(404, "The API has no /events.")
        for each in self.changes:
            await each.wait()
            yield Change(id=7)
        await asyncio.Event().wait()


class Followed:
    """A job that is followed with pipes, and what was written."""

    def __init__(self, client: Scripted) -> None:
        self._out, self._err = io.BytesIO(), io.BytesIO()
        self.interrupts = Interrupts(asks=False)
        screen = Screen(self._out, self._err)
        self.following = Following(cast(AsyncClient, client), SCHEDULED, screen, self.interrupts)

    @property
    def out(self) -> list[str]:
        return self._out.getvalue().decode().splitlines()

    @property
    def err(self) -> list[str]:
        return self._err.getvalue().decode().splitlines()


async def test_output_that_comes_before_the_change_stands_below_the_line_of_the_container() -> None:
    client = Scripted([LogLine(text="42"), LogEnd(status="DONE", exit_code=0)], [RUNNING, DONE])
    client.changes = []
    both = io.BytesIO()
    job = Following(
        cast(AsyncClient, client), SCHEDULED, Screen(both, both), Interrupts(asks=False)
    )
    assert await job.run() == 0
    lines = both.getvalue().decode().splitlines()
    assert lines.index("42") == lines.index(" ● running") + 1


async def test_an_api_without_the_stream_of_changes_is_polled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "TICK_SECONDS", 0.01)
    running = asyncio.Event()
    client = Scripted([running, LogEnd(status="DONE")], [SCHEDULED, SCHEDULED, RUNNING])
    followed = Followed(client)
    task = asyncio.create_task(followed.following.run())
    async with asyncio.timeout(30):
        while " ● running" not in followed.err:  # noqa: ASYNC110 - nothing informs us
            await asyncio.sleep(0.01)
    client.statuses = [DONE]
    running.set()
    assert await task == 0


async def test_the_document_is_read_at_each_change_and_hardly_ever_between_them() -> None:
    change, end = asyncio.Event(), asyncio.Event()
    client = Scripted([end, LogEnd(status="DONE")], [SCHEDULED, RUNNING])
    client.changes = [change]
    followed = Followed(client)
    task = asyncio.create_task(followed.following.run())
    change.set()
    async with asyncio.timeout(30):
        while " ● running" not in followed.err:  # noqa: ASYNC110 - nothing informs us
            await asyncio.sleep(0.01)
    assert client.asked <= 3
    client.statuses = [DONE]
    end.set()
    assert await task == 0


async def test_a_record_that_was_removed_is_said_and_is_no_success() -> None:
    followed = Followed(Scripted([LogEnd()], [NO_JOB]))
    assert await followed.following.run() == 125
    assert followed.err[-1].startswith("The record of job 7 was removed")


async def test_an_api_that_is_away_at_the_end_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.0)
    away = Unreachable("http://api", "connection refused")
    client = Scripted([LogEnd(status="DONE")], [away, away, away, DONE])
    followed = Followed(client)
    assert await followed.following.run() == 0
    assert followed.err.count("connection lost, trying again …") == 1
    assert followed.err[-1].startswith("exited 0")


async def test_a_job_that_is_over_by_the_time_it_is_cancelled_keeps_its_end() -> None:
    end = asyncio.Event()
    client = Scripted([end, LogEnd(status="DONE")], [DONE])
    followed = Followed(client)
    followed.interrupts.wish(Wish.CANCEL)
    task = asyncio.create_task(followed.following.run())
    async with asyncio.timeout(30):
        while not client.cancelled:  # noqa: ASYNC110 - nothing informs us
            await asyncio.sleep(0.01)
    end.set()
    assert await task == 0


async def test_a_failure_without_an_exit_code_shows_its_whole_message() -> None:
    refused = document("ended", "FAILED", error_message="no such image\ncheck its name")
    followed = Followed(Scripted([LogEnd(status="FAILED")], [refused]))
    assert await followed.following.run() == 125
    assert followed.err[-2] == "check its name"
    assert followed.err[-1].startswith("failed: no such image")
