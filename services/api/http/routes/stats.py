"""`GET /stats`: what finished jobs were and cost, grouped."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import get_args

from msgspec.structs import replace
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.api.group_commit import Overloaded
from services.api.http.filters import PROJECT, read_project
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.http.times import read_time
from services.api.jobs import stats
from services.api.jobs.fields import MAX_LABEL_LENGTH
from services.api.jobs.stats import By, Question
from services.api.submission.request import BadRequest
from shared.postgres.pool import Database

DEFAULT_DAYS, MOST_DAYS = 30, 366
WAIT_SECONDS = 10.0

LABEL = "label:"
BYS = tuple(each for each in get_args(By) if each != "label")


@dataclass(frozen=True)
class StatsRoute:
    """The one route. One question at a time is counted, since it may read all jobs."""

    db: Database
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def stats(self, request: Request) -> Response:
        """Serve it."""
        now = self.db.clock.now()
        query = read_query(request, "since", "until", "by", PROJECT)
        project = read_project(query, caller_of(request))
        question = replace(_question(query, now), project=project)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self.turn.acquire()
        except TimeoutError:
            raise Overloaded("other statistics are being counted: try again") from None
        try:
            return answer(await stats.load_stats(self.db, question, now))
        except stats.StatsTooLarge:
            raise BadRequest(
                f"since: more jobs finished from then to until than can be counted in "
                f"{stats.SECONDS} s: ask for a shorter time"
            ) from None
        finally:
            self.turn.release()


def _question(query: QueryParams, now: datetime) -> Question:
    until = read_time(query, "until", now) or now
    since = read_time(query, "since", now) or _first_day(until)
    if not timedelta() < until - since <= timedelta(days=MOST_DAYS):
        raise BadRequest(f"since must be before until, and they may span {MOST_DAYS} days")
    by = query.get("by", "day")
    for each in BYS:
        if by == each:
            return Question(since, until, each)
    return Question(since, until, "label", _label(by))


def _first_day(until: datetime) -> datetime:
    """Return the beginning of the first of the last days, so that they are whole ones (UTC)."""
    today = until.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        return today - timedelta(days=DEFAULT_DAYS - 1)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _label(by: str) -> str:
    prefix, colon, name = by.partition(":")
    if prefix + colon != LABEL or not name:
        raise BadRequest(f"by must be one of {', '.join(BYS)}, or {LABEL} and a label's name")
    if "\0" in name:  # Postgres has none in a text
        raise BadRequest("by must not hold a NUL character")
    if len(name) > MAX_LABEL_LENGTH:
        raise BadRequest(f"by: a label's name has at most {MAX_LABEL_LENGTH} characters")
    return name
