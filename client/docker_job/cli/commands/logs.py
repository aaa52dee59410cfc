"""`docker-job logs`: what the containers of jobs printed."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import click

from docker_job import AsyncClient
from docker_job.cli.app import App, command
from docker_job.cli.jobs_argument import jobs_argument
from docker_job.cli.log_output import LogOutput
from docker_job.cli.quantities import span_seconds
from docker_job.cli.screen import Screen
from docker_job.cli.trouble import Trouble
from docker_job.documents import LogEnd, LogLine
from docker_job.reading import time_of


def _time(text: str) -> datetime:
    """Read a time, or an age like `10m`; a time without a zone is local, as with docker."""
    seconds = span_seconds(text)
    if seconds is not None:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time: write an age like 10m, or 2030-11-24T10:00:00Z"
        ) from None


def _tail(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is no number of lines: write a number, or all")
    return int(text)


@command("logs", short_help="Show what jobs printed.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on until the jobs are over.")
@click.option("-n", "--tail", type=_tail, metavar="N|all", help="So many last lines.")
@click.option("--since", type=_time, metavar="TIME", help="Lines since then: 10m, or ISO 8601.")
@click.option("-t", "--timestamps", is_flag=True, help="Show the time of each line.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Show this attempt alone.")
@jobs_argument
def logs(
    app: App,
    *,
    follows: bool,
    tail: int | None,
    since: datetime | None,
    timestamps: bool,
    attempt: int | None,
    jobs: tuple[str, ...],
) -> None:
    """Show what each JOB, an id or a name, printed, to standard output and to standard error.

    Of several jobs each line begins with the job that it is of. With --json each line is a
    document.
    """
    ids = [app.client.find(each) for each in jobs]
    screen = Screen.of_process(colour=app.color)
    prefix = max(map(len, jobs)) if len(jobs) > 1 and not app.json else 0
    shown = [
        _Shown(app, screen, job_id, since, _before(job, prefix, timestamps=timestamps))
        for job_id, job in zip(ids, jobs, strict=True)
    ]
    if follows:
        asyncio.run(_follow(app, screen, shown, tail, attempt))
        return
    for each in shown:
        lines = app.client.logs(
            each.job_id, tail=tail, attempt=attempt, timestamps=True, streams=True
        )
        for line in lines:
            each.write(parsed(line))


def parsed(text: str) -> LogLine:
    """Read a line of the log as text, with its time and its stream."""
    at, _, rest = text.partition(" ")
    stream, _, text = rest.partition(" ")
    line = {"at": at, "stream": stream, "text": text}
    return LogLine(text=text, stream=stream, at=time_of(at), raw=line)


class _Shown:
    """The log of one job, as it is shown: since a time, as lines or as JSON."""

    def __init__(
        self,
        app: App,
        screen: Screen,
        job_id: int,
        since: datetime | None,
        before: Callable[[LogLine], str] | None,
    ) -> None:
        self.job_id = job_id
        self._app = app
        self._since = since
        self._output = LogOutput(screen, before, whole=before is not None)

    def write(self, line: LogLine) -> None:
        """Write a line, unless it is too old."""
        if self._since is not None and line.at is not None and line.at < self._since:
            return
        if self._app.json:
            self._app.print_json({"job": self.job_id, **line.raw})
        else:
            self._output.write(line)

    def close(self) -> None:
        """End the last line."""
        self._output.close()


def _before(job: str, width: int, *, timestamps: bool) -> Callable[[LogLine], str] | None:
    """Return what stands before each line; None: nothing."""
    name = f"{job:<{width}} | " if width else ""
    if not timestamps:
        return (lambda _line: name) if name else None
    return lambda line: f"{name}{_stamp(line)}"


def _stamp(line: LogLine) -> str:
    if line.at is None:
        return ""
    at = line.at.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{at.removesuffix('+00:00')}Z "


async def _follow(
    app: App, screen: Screen, shown: list[_Shown], tail: int | None, attempt: int | None
) -> None:
    trouble = Trouble(screen)
    async with app.async_client() as client:
        if sys.stderr.isatty():
            await _say_what_is_awaited(client, screen, shown)
        try:
            async with asyncio.TaskGroup() as group:
                for each in shown:
                    group.create_task(_follow_one(client, each, tail, attempt, trouble))
        except ExceptionGroup as errors:  # the others were ended with it
            raise errors.exceptions[0] from None


async def _follow_one(
    client: AsyncClient, shown: _Shown, tail: int | None, attempt: int | None, trouble: Trouble
) -> None:
    lines = client.follow_logs(
        shown.job_id,
        tail=tail,
        attempt=attempt,
        patience_seconds=None,
        on_trouble=trouble.of(shown),
    )
    async with aclosing(lines):
        async for line in lines:
            if isinstance(line, LogEnd):
                break
            shown.write(line)
    shown.close()


async def _say_what_is_awaited(client: AsyncClient, screen: Screen, shown: list[_Shown]) -> None:
    """Say of each job that prints nothing yet what it waits for."""
    for each in shown:
        job = await client.status(each.job_id)
        if job.status == "SCHEDULED":
            reason = job.status_reason or job.waiting_because or job.phase
            screen.note(f"job {job.id} does not run yet: {reason}")
