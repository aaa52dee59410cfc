"""A log as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

The id of an event is the place to continue after. That of the last one, `end`, has `.end` behind
it, so that the request of a client that has it can be answered with 204: it stops asking.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from services.api.http.log_query import LogQuery
from services.api.jobs import store as job_store
from services.api.jobs.model import TERMINAL, Attempt, Job
from services.api.logs import store as log_store
from services.api.logs.completion import is_complete
from services.api.logs.followers import Followers
from services.api.logs.reader import LogPage, LogReader, Place
from shared.postgres.pool import Connection, Database

KEEP_ALIVE_SECONDS = 15.0
POLL_SECONDS = 2.0
"""A follower is woken by this API's own changes; polling finds those of replicas elsewhere."""

_encoder = msgspec.json.Encoder()


class LineEvent(Struct, frozen=True, omit_defaults=True):
    """The data of a line."""

    at: str
    stream: str
    text: str
    attempt: int
    continues: str | None = None


class State(Struct, frozen=True):
    """A job as of one time; `job` is None if it was removed. `complete`: no line will come."""

    job: Job | None
    attempt: Attempt | None
    complete: bool


@dataclass(frozen=True)
class LogEvents:
    """The log of one job, followed."""

    db: Database
    followers: Followers
    job_id: int
    query: LogQuery

    async def stream(self, reader: LogReader) -> AsyncIterator[str]:
        """Stream lines as they come. The state is read before the lines: none is missed.

        The end of a job whose container is being stopped waits for its last lines.
        """
        heard_at = self.db.clock.now()
        with self.followers.follow(self.job_id) as changed:
            while True:
                changed.clear()
                async with self.db.connection() as conn:
                    state = await self.look(conn)
                while pages := await self._read(reader):
                    if text := "".join(_event(page) for page in pages):
                        heard_at = self.db.clock.now()
                        yield text
                if state.complete:
                    break
                # What another stream prints is nothing that this client hears.
                if self._has_been_quiet(heard_at):
                    heard_at = self.db.clock.now()
                    yield ": still here\n\n"
                await _either(changed, POLL_SECONDS)
        yield _end(reader.place, state)

    def _has_been_quiet(self, heard_at: datetime) -> bool:
        """Return whether it is time for a sign of life, also if the clock was set back."""
        return abs(self.db.clock.now() - heard_at) >= timedelta(seconds=KEEP_ALIVE_SECONDS)

    async def has_no_more(self, conn: Connection) -> bool:
        """Return whether nothing follows the last event that the client has."""
        if not (await self.look(conn)).complete:
            return False
        after, upto = self.query.after or (0, 0), self.query.upto
        return not await log_store.read_pieces(conn, self.job_id, after=after, upto=upto, limit=2)

    async def look(self, conn: Connection) -> State:
        """Load the job as far as its log's end depends on it."""
        job = await job_store.load_job(conn, self.job_id)
        only = self.query.attempt
        if job is None:
            return State(None, None, complete=True)
        if job.status not in TERMINAL and only is None:
            return State(job, None, complete=False)
        attempts = await job_store.load_attempts(conn, self.job_id)
        chosen = next((each for each in attempts if each.number == only), None)
        complete = is_complete(job, attempts, self.db.clock.now(), only)
        return State(job, chosen, complete=complete)

    async def _read(self, reader: LogReader) -> list[LogPage]:
        async with self.db.connection() as conn:
            return await reader.read(conn)


def _event(page: LogPage) -> str:
    """Render a page as one event with a `data` line for each line."""
    encode, attempt = _encoder.encode, page.attempt
    data = "".join(
        f"data: {encode(LineEvent(at, stream, text, attempt, continues)).decode()}\n"
        for at, stream, text, continues in page.lines
    )
    return f"id: {attempt}.{page.seq}\n{data}\n" if data else ""


def _end(place: Place, state: State) -> str:
    job, attempt = state.job, state.attempt
    last: dict[str, Any] = {"status": job.status, "exit_code": job.exit_code} if job else {}
    if attempt is not None:
        last |= {"exit_code": attempt.exit_code, "attempt": attempt.number, "cause": attempt.cause}
    attempt_number, seq = place
    data = _encoder.encode(last).decode()
    return f"id: {attempt_number}.{seq}.end\nevent: end\ndata: {data}\n\n"


async def _either(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
