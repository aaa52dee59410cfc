"""SQL of the filtered pages of `/list`. A page costs the same at any number of jobs.

Each filter is a list of ids, in order, and so are all jobs. A step of the search by id looks in
every one for its last id up to *upto*; the lowest of them is *top*, as nothing above it is in all.
Of the list that it is of it takes the next ids from there down, and of those the ones that match.
So there are never many more steps than the shortest list has ids, however long the others are.

Whatever is asked, the search for a page ends after some `MOST_READ` jobs. So a page may have fewer
jobs than were asked for although more follow, and says where the next one begins.
"""

import contextlib
from datetime import datetime, timedelta

from msgspec import Struct

from services.api.jobs.filters import Filters
from services.api.jobs.listed import ListedJob
from services.api.jobs.listing import ATTEMPTS, LISTED, as_listed, list_all
from shared.postgres.pool import Connection

MOST_READ = 5000

SEVERAL, TEXT = 25, 250
"""The jobs that one step reads where several lists are compared, and where texts are. To find *top*
takes about as long as 25.
"""

DISORDER = timedelta(seconds=30)
"""By so much a job with a lower id may have been accepted later: see `submission/job_ids.py`."""

LAST_ID = 2**63 - 1

# $3 to $7 are labels, statuses, name, image and text of the filters, $8 and $9 the times, $13 the
# project.
_MATCHES = """
labels @> $3 AND (cardinality($4::text[]) = 0 OR status = ANY ($4))
AND ($13::text IS NULL OR project = $13)
AND ($5::text IS NULL OR name = $5) AND ($6::text IS NULL OR docker_image = $6)
AND ($7::text IS NULL OR strpos(id::text, $7) > 0 OR strpos(lower(name), lower($7)) > 0
     OR strpos(lower(docker_image), lower($7)) > 0
     OR EXISTS (SELECT FROM jsonb_each_text(labels) label
                WHERE strpos(lower(label.value), lower($7)) > 0))
"""
_CREATED = """
($8::timestamptz IS NULL OR created_at >= $8) AND ($9::timestamptz IS NULL OR created_at < $9)
"""

# The statements leave the planner no choice: with statistics from before a bulk load, or in a
# generic plan, it would walk all jobs for a page of few. So only the intended index fits.
_WITH_LABEL = """
SELECT job_id AS id FROM job_labels WHERE (name, value) = ({label}) AND job_id <= {upto}
ORDER BY job_id DESC LIMIT {limit}
"""
_WITH_STATUS = """
SELECT id FROM jobs WHERE (status, id) <= (wanted, {upto}) AND status >= wanted
ORDER BY status DESC, id DESC LIMIT {limit}
"""
_WITH_PROJECT = """
SELECT id FROM jobs WHERE (project, id) <= ($13, {upto}) AND project >= $13
ORDER BY project DESC, id DESC LIMIT {limit}
"""
_WITH_HASH = """
SELECT id FROM jobs WHERE {column} IS NOT NULL
    AND (hashtextextended({column}, 0), id) <= (hashtextextended({value}::text, 0), {upto})
    AND hashtextextended({column}, 0) >= hashtextextended({value}::text, 0)
ORDER BY hashtextextended({column}, 0) DESC, id DESC LIMIT {limit}
"""
_LEFT = {"upto": "{upto}", "limit": "{limit}"}
_WITH_NAME = _WITH_HASH.format(column="name", value="$5", **_LEFT)
_WITH_IMAGE = _WITH_HASH.format(column="docker_image", value="$6", **_LEFT)
_LASTS = f"""
SELECT ({_WITH_LABEL.format(label="label.key, label.value", upto="upto", limit=1)}) AS last,
    1 AS kind, label.key, label.value
FROM jsonb_each_text($3::jsonb) label
UNION ALL
SELECT ({_WITH_NAME.format(upto="upto", limit=1)}), 2, '', ''
WHERE $5::text IS NOT NULL
UNION ALL
SELECT ({_WITH_IMAGE.format(upto="upto", limit=1)}), 3, '', ''
WHERE $6::text IS NOT NULL
UNION ALL
SELECT max(({_WITH_STATUS.format(upto="upto", limit=1)})), 4, '', ''
FROM unnest($4::text[]) wanted HAVING cardinality($4::text[]) > 0
UNION ALL
SELECT ({_WITH_PROJECT.format(upto="upto", limit=1)}), 5, '', ''
WHERE $13::text IS NOT NULL
UNION ALL
SELECT upto, 6, '', ''
"""  # noqa: S608 - our own words
_NEXT = f"""
SELECT * FROM (
    {_WITH_LABEL.format(label="top.key, top.value", upto="top.id", limit="$10")}) labelled
WHERE kind = 1
UNION ALL
SELECT * FROM ({_WITH_NAME.format(upto="top.id", limit="$10")}) named
WHERE kind = 2
UNION ALL
SELECT * FROM (
    {_WITH_IMAGE.format(upto="top.id", limit="$10")}) of_image
WHERE kind = 3
UNION ALL
SELECT * FROM (
    SELECT each.id FROM unnest($4::text[]) wanted CROSS JOIN LATERAL (
        {_WITH_STATUS.format(upto="top.id", limit="$10")}) each
    ORDER BY each.id DESC LIMIT $10) of_status
WHERE kind = 4
UNION ALL
SELECT * FROM ({_WITH_PROJECT.format(upto="top.id", limit="$10")}) of_project
WHERE kind = 5
UNION ALL
SELECT * FROM (SELECT id FROM jobs WHERE id <= top.id ORDER BY id DESC LIMIT $10) every
WHERE kind = 6
"""  # noqa: S608 - our own words
# A row of `search` alone, without a job, still says where the search ended.
_FOUND = f"""
SELECT search.seen, search.at, search.before, listed.*
FROM (SELECT max(seen) AS seen, {{at}} AS at, {{before}} AS before FROM walk) search
LEFT JOIN LATERAL (
    SELECT {LISTED} FROM (SELECT unnest(found) AS id FROM walk LIMIT $2) page
    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = page.id OFFSET 0) j {ATTEMPTS}
) listed ON true
"""  # noqa: S608 - our own columns
LIST_MATCHING = f"""
WITH RECURSIVE walk (upto, found, total, seen) AS (
    SELECT $1::bigint - 1, '{{}}'::bigint[], 0::bigint, 0::bigint
    UNION ALL
    SELECT block.low - 1, block.found, total + coalesce(cardinality(block.found), 0), seen + size
    FROM walk CROSS JOIN LATERAL (
        SELECT coalesce(last, 0) AS id, kind, key, value FROM ({_LASTS}) lists
        ORDER BY coalesce(last, 0), kind LIMIT 1) top
    CROSS JOIN LATERAL (
        SELECT min(id) AS low, count(*) AS size, array_agg(id ORDER BY id DESC) FILTER (
            WHERE EXISTS (SELECT FROM jobs WHERE id = next.id AND {_CREATED} AND {_MATCHES})
        ) AS found
        FROM ({_NEXT}) next) block
    WHERE top.id >= $12::bigint AND total < $2 AND seen < $11::bigint AND size > 0
)
{_FOUND.format(at="NULL::timestamptz", before="min(upto) + 1")} ORDER BY listed.id DESC
"""  # noqa: S608 - our own words
# Each finished job is in one of two indexes: with its logs, or without.
_FINISHED = """
SELECT finished_at, id FROM jobs
WHERE {which} AND (finished_at, id) < (walk.at, walk.before)
    AND finished_at >= coalesce($8::timestamptz, '-infinity')
ORDER BY finished_at DESC, id DESC LIMIT $10
"""
_WITH_LOGS = "finished_at IS NOT NULL AND logs_removed_at IS NULL"
_WITHOUT_LOGS = "logs_removed_at IS NOT NULL"
_OF_ALL = f"""
SELECT * FROM (({_FINISHED.format(which=_WITH_LOGS)})
    UNION ALL ({_FINISHED.format(which=_WITHOUT_LOGS)})) either
ORDER BY finished_at DESC, id DESC LIMIT $10
"""  # noqa: S608 - our own words
# One index has all of them, and of no other project.
_OF_PROJECT = """
SELECT finished_at, id FROM jobs
WHERE finished_at IS NOT NULL AND (project, finished_at, id) < ($13, walk.at, walk.before)
    AND (project, finished_at) >= ($13, coalesce($8::timestamptz, '-infinity'))
ORDER BY project DESC, finished_at DESC, id DESC LIMIT $10
"""
_LIST_FINISHED = f"""
WITH RECURSIVE walk (at, before, found, total, seen) AS (
    SELECT coalesce(least($1::timestamptz, $9), 'infinity'),
        CASE WHEN $9::timestamptz <= coalesce($1, 'infinity') THEN 0 ELSE $12::bigint END,
        ARRAY[]::bigint[], 0::bigint, 0::bigint
    UNION ALL
    SELECT block.at, low, block.found, total + coalesce(cardinality(block.found), 0), seen + size
    FROM walk CROSS JOIN LATERAL (
        SELECT min(finished_at) AS at, (array_agg(id ORDER BY finished_at, id))[1] AS low,
            count(*) AS size, array_agg(id ORDER BY finished_at DESC, id DESC) FILTER (
                WHERE EXISTS (SELECT FROM jobs WHERE id = next.id AND {_MATCHES})
            ) AS found
        FROM ({{finished}}) next) block
    WHERE total < $2 AND seen < $11::bigint AND size > 0
)
{_FOUND.format(at="min(at)", before="(array_agg(before ORDER BY seen DESC))[1]")}
ORDER BY listed.finished_at DESC, listed.id DESC
"""  # noqa: S608 - our own words
LIST_FINISHED = _LIST_FINISHED.format(finished=_OF_ALL)
LIST_FINISHED_OF_PROJECT = _LIST_FINISHED.format(finished=_OF_PROJECT)


class Position(Struct, frozen=True):
    """The place behind a page: by `at`, the time of the finish, and below that by id."""

    before: int = LAST_ID
    at: datetime | None = None


START = Position()


class Page(Struct, frozen=True):
    """Some jobs, and where the next page begins; None: there is none."""

    jobs: list[ListedJob]
    end: Position | None


async def list_jobs(
    conn: Connection, filters: Filters, limit: int, start: Position = START
) -> Page:
    """Load up to *limit* jobs that match *filters*, newest first."""
    if filters.contradict:
        return Page([], None)
    if filters == Filters():
        jobs, behind = await list_all(conn, start.before, limit + 1), None
    else:
        jobs, behind = await _search(conn, filters, limit + 1, start)
    if len(jobs) <= limit:
        return Page(jobs, behind)
    last = jobs[limit - 1]
    at = last.finished_at if filters.by == "finished" else None
    return Page(jobs[:limit], Position(last.id, at))


async def _search(
    conn: Connection, filters: Filters, limit: int, start: Position
) -> tuple[list[ListedJob], Position | None]:
    """Find jobs; return where the search ended if it did so early."""
    bounds: tuple[datetime | int | None, int]
    if filters.by == "finished":
        sql = LIST_FINISHED if filters.project is None else LIST_FINISHED_OF_PROJECT
        bounds = start.at, start.before
    else:
        first, before = await _ids(conn, filters, start.before)
        sql, bounds = LIST_MATCHING, (before, first)
    rows = await conn.fetch(
        sql,
        bounds[0],
        limit,
        dict(filters.labels),
        list(filters.statuses),
        filters.name,
        filters.image,
        filters.text,
        filters.since,
        filters.until,
        _block(filters, limit),
        MOST_READ,
        bounds[1],
        filters.project,
    )
    seen, at, end = rows[0][:3]
    jobs = [as_listed(row[3:]) for row in rows if row["id"] is not None]
    return jobs, Position(end, at) if seen >= MOST_READ else None


def _block(filters: Filters, limit: int) -> int:
    """Return how many jobs one step reads: as many as are asked for where nearly all match."""
    asked = [filters.statuses, filters.name, filters.image]
    if filters.by == "created":  # the finished ones of a project are a list of their own
        asked.append(filters.project)
    lists = len(filters.labels) + sum(bool(each) for each in asked)
    if lists > 1:
        return SEVERAL
    if filters.text is not None or (filters.by == "finished" and lists):
        return TEXT
    return limit


# By bisection: ids are nearly in the order of acceptance, and an index of times would cost more.
FIRST_ID_SINCE = """
WITH RECURSIVE bisection (low, high) AS (
    SELECT coalesce(min(id), 0), coalesce(max(id), 0) + 1 FROM jobs
    UNION ALL
    SELECT CASE WHEN early THEN probe.id + 1 ELSE low END, CASE WHEN early THEN high ELSE middle END
    FROM bisection CROSS JOIN LATERAL (SELECT low + (high - low) / 2 AS middle OFFSET 0) half
    CROSS JOIN LATERAL (
        SELECT id, id < high AND created_at < $1 AS early FROM jobs
        WHERE id >= middle ORDER BY id LIMIT 1) probe
    WHERE low < high
)
SELECT max(low) FROM bisection
"""


async def _ids(conn: Connection, filters: Filters, before: int) -> tuple[int, int]:
    """Return the bounds of the ids that may have been accepted in the filters' time."""
    first = 1
    if filters.since is not None:
        first = max(1, await _first_id_since(conn, filters.since, -DISORDER))
    if filters.until is not None:
        before = min(before, await _first_id_since(conn, filters.until, DISORDER))
    return first, before


async def _first_id_since(conn: Connection, at: datetime, margin: timedelta) -> int:
    with contextlib.suppress(OverflowError):  # the year 1 or 9999
        at += margin
    found: int = await conn.fetchval(FIRST_ID_SINCE, at)
    return found
