"""One job, followed to its end: its log on our standard output and error, its phases as lines.

The log's stream says when the job is over. The stream of changes says when the job's document is
worth reading again; an older API has none, and is asked every second. What is shown comes from the
document alone.
"""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from docker_job import AsyncClient
from docker_job.cli.interrupts import QUESTION, Interrupts, Wish
from docker_job.cli.log_output import STREAMS, LogOutput
from docker_job.cli.outcome import FAILED, exit_code, is_settled, summary
from docker_job.cli.screen import Screen
from docker_job.cli.story import Story
from docker_job.cli.story_line import StoryLine, header
from docker_job.cli.trouble import Trouble
from docker_job.documents import Job, LogEnd, LogLine
from docker_job.errors import ApiError, Conflict, DockerJobError, NotFound, Unreachable

T = TypeVar("T")

TICK_SECONDS = 1.0
RARELY = 5
"""Ticks between two readings of the document for which there is no other reason."""
SETTLING_SECONDS, LOOK_SECONDS = 3.0, 0.2
"""On a terminal: the time for the instance's termination, and with it the cost, to be known."""
QUIET_SECONDS = 0.4
"""The live line is drawn below output once that pauses for so long."""
AGAIN_SECONDS = 1.0


class Following:
    """Follows one job. `run` returns the exit code of the command."""

    def __init__(
        self, client: AsyncClient, job: Job, screen: Screen, interrupts: Interrupts
    ) -> None:
        self._client = client
        self._id = job.id
        self._first = job
        self._screen = screen
        self._interrupts = interrupts
        self._story = Story(live=screen.live)
        self._reading = asyncio.Lock()
        self._polls = False
        self._removed = False
        self._trouble = Trouble(screen)
        self._output = LogOutput(screen)
        self._written_at = 0.0

    async def run(self) -> int:
        """Follow the job until it is over, or the user leaves it."""
        self._screen.note(header(self._first))
        self._show(self._first)
        with self._interrupts.watched():
            logs = asyncio.create_task(self._logs())
            beside = [asyncio.create_task(each()) for each in (self._changes, self._tick)]
            try:
                if not await self._until_over(logs):
                    return self._detached()
                return await self._finish(logs.result())
            except BrokenPipeError:  # `docker-job run … | head`: who read has enough
                self._screen.note(self._goes_on())
                raise
            finally:
                await _end(logs, *beside)
                self._screen.draw(None)

    async def _until_over(self, logs: asyncio.Task[LogEnd | None]) -> bool:
        """Wait for the end of the log; return False if the user leaves before."""
        while True:
            wish = asyncio.create_task(self._interrupts.next())
            await asyncio.wait({logs, wish}, return_when=asyncio.FIRST_COMPLETED)
            if not wish.done():
                await _end(wish)
                return True
            if wish.result() is Wish.DETACH:
                return False
            await self._cancel()

    async def _cancel(self) -> None:
        self._screen.note(f"cancelling job {self._id} …")
        with contextlib.suppress(Conflict, NotFound):  # it is over by now
            self._show(await self._patiently(lambda: self._client.cancel(self._id)))

    def _detached(self) -> int:
        self._output.close()
        self._screen.note(self._goes_on())
        return self._interrupts.code

    def _goes_on(self) -> str:
        return (
            f"Detached: job {self._id} goes on. Follow it with `docker-job logs -f {self._id}`, "
            f"cancel it with `docker-job stop {self._id}`."
        )

    async def _logs(self) -> LogEnd | None:
        lines = self._client.follow_logs(
            self._id, patience_seconds=None, on_trouble=self._trouble.of("log")
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                if isinstance(line, LogEnd):
                    return line
                await self._write(line)
        return None

    async def _write(self, line: LogLine) -> None:
        """Write a line; that of the running container is above its first output."""
        if line.stream in STREAMS:
            if not self._story.has_started(line.attempt):
                await self._refresh()
            for settled in self._story.settle_running(line.attempt):
                self._note(settled)
        self._output.write(line)
        self._written_at = time.monotonic()

    async def _changes(self) -> None:
        """Read the document at each change; without the stream of changes, poll."""
        try:
            changes = self._client.events(
                job=self._id, patience_seconds=None, on_trouble=self._trouble.of("changes")
            )
            async with contextlib.aclosing(changes):
                async for _ in changes:
                    await self._refresh()
        except DockerJobError:
            self._polls = True

    async def _tick(self) -> None:
        """Keep the live line current.

        The amount that is pulled is no change of its own; and what changed before the stream of
        changes began is seen here.
        """
        for count in itertools.count():
            self._interrupts.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._interrupts.changed.wait()
            is_pulling = self._story.job is not None and self._story.job.phase == "pulling"
            if self._polls or (self._screen.live and is_pulling) or count % RARELY == 0:
                await self._refresh()
            self._draw()

    async def _refresh(self) -> None:
        """Read the document, if the API answers; the next change or second reads it again."""
        async with self._reading:
            try:
                self._show(await self._client.status(self._id))
            except NotFound:
                self._removed = True
            except DockerJobError:
                pass

    def _show(self, job: Job) -> None:
        for line in self._story.feed(job, _now()):
            self._note(line)
        self._draw()

    def _note(self, line: StoryLine) -> None:
        self._screen.note(line.render(), line.look.colour)

    def _draw(self) -> None:
        if self._interrupts.is_asking:
            if self._screen.is_mid_line:
                self._screen.end_line()
            self._screen.draw(QUESTION)
        elif time.monotonic() - self._written_at >= QUIET_SECONDS:
            line = self._story.live_line(_now())
            self._screen.draw(line.render() if line else None, line.look.colour if line else None)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again for as long as the API is away."""
        trouble = self._trouble.of("call")
        while True:
            try:
                answer = await ask()
            except Unreachable as error:
                trouble(error)
            except ApiError as error:
                if error.status < 500:
                    raise
                trouble(error)
            else:
                trouble(None)
                return answer
            await asyncio.sleep(AGAIN_SECONDS)

    async def _finish(self, end: LogEnd | None) -> int:
        """Show the end; return the exit code."""
        self._output.close()
        try:
            job = await self._ended()
        except NotFound:
            self._screen.note(
                f"The record of job {self._id} was removed: how it ended is known no longer."
            )
            return 0 if end and end.status == "DONE" else (end and end.exit_code) or FAILED
        self._show(job)
        self._screen.draw(None)
        if job.exit_code is None:
            for line in (job.error_message or "").strip().splitlines()[1:]:
                self._screen.note(line)
        self._screen.note(summary(job))
        return exit_code(job)

    async def _ended(self) -> Job:
        """Read the document of the job that is over; on a terminal, with its cost if that comes."""
        deadline = time.monotonic() + (SETTLING_SECONDS if self._screen.live else 0.0)
        while True:
            job = await self._patiently(lambda: self._client.status(self._id))
            if is_settled(job) or time.monotonic() >= deadline:
                return job
            await asyncio.sleep(LOOK_SECONDS)


async def follow(
    client: AsyncClient, job: Job, *, quiet: bool = False, colour: bool | None = None
) -> int:
    """Follow a job on the screen of this process; return the exit code of the command."""
    screen = Screen.of_process(quiet=quiet, colour=colour)
    asks = screen.live and sys.stdin is not None and sys.stdin.isatty()
    return await Following(client, job, screen, Interrupts(asks=asks)).run()


async def _end(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> datetime:
    return datetime.now(UTC)
