"""A log as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

The id of an event is the place to continue after. That of the last one, `end`, has `.end` behind
it, so that the request of a client that has it can be answered with 204: it stops asking.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from services.api.changes.followers import Followers
from services.api.http.log_query import LogQuery
from services.api.http.sse import STILL_HERE, Quiet
from services.api.jobs import store as job_store
from services.api.jobs.model import TERMINAL, Attempt, Job
from services.api.logs import store as log_store
from services.api.logs.completion import completes_at
from services.api.logs.reader import LogPage, LogReader, Place
from shared.postgres.pool import Connection, Database

_encoder = msgspec.json.Encoder()


class LineEvent(Struct, frozen=True, omit_defaults=True):
    """The data of a line."""

    at: str
    stream: str
    text: str
    attempt: int
    continues: str | None = None


class State(Struct, frozen=True):
    """A job as of one time; `job` is None if it was removed.

    `complete`: no line will come. `ends_at`: when that will be so, if it is known.
    """

    job: Job | None
    attempt: Attempt | None
    complete: bool
    ends_at: datetime | None = None


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
        quiet = Quiet(self.db.clock)
        with self.followers.follow(self.job_id) as changed:
            while True:
                changed.clear()
                async with self.db.connection() as conn:
                    state = await self.look(conn)
                while pages := await self._read(reader):
                    if text := "".join(_event(page) for page in pages):
                        quiet.end()
                        yield text
                if state.complete:
                    break
                # What another stream prints is nothing that this client hears.
                if quiet.is_long():
                    quiet.end()
                    yield f"{STILL_HERE}\n"
                await self.db.clock.wait(changed, quiet.seconds_left(state.ends_at))
        yield _end(reader.place, state)

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
        now = self.db.clock.now()
        ends_at = completes_at(job, attempts, now, only)
        return State(job, chosen, ends_at is not None and ends_at <= now, ends_at)

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
