"""SQL of changes: number the new ones in the order of commits, read them, and prune old ones."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from shared.postgres.pool import Connection, Transaction


class ChangePosition(Struct, frozen=True):
    """A place in the order of changes; those of another epoch mean nothing."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"


class JobChange(Struct, frozen=True):
    """A change as it was committed, with what its job was submitted with."""

    number: int
    job_id: int
    at: datetime
    status: str
    attempt: int
    phase: str
    reason: str
    name: str | None
    docker_image: str
    labels: dict[str, str]
    project: str


class ChangePage(Struct, frozen=True):
    """The changes after a position, in order, as far as they are numbered.

    `last`: the place to continue after. `lost`: changes after the position are no longer kept, or
    it is of no use here; `last` is then the newest position. `unnumbered`: there are newer changes.
    """

    changes: tuple[JobChange, ...]
    last: ChangePosition
    lost: bool
    unnumbered: bool


MAKE_COUNTER = "INSERT INTO job_change_counter DEFAULT VALUES ON CONFLICT DO NOTHING"
LOCK_COUNTER = "SELECT position FROM job_change_counter FOR UPDATE"
# In the order of their ids, which for one job is that of its commits: its lock is held until then.
NUMBER = """
WITH taken AS (
    DELETE FROM new_job_changes
    WHERE id = ANY (ARRAY(SELECT id FROM new_job_changes ORDER BY id LIMIT (SELECT $2::integer)))
    RETURNING *
), numbered AS (
    INSERT INTO job_changes (position, job_id, at, status, attempt, phase, reason)
    SELECT $1 + row_number() OVER (ORDER BY id), job_id, at, status, attempt, phase, reason
    FROM taken
    RETURNING position
)
UPDATE job_change_counter SET position = found.last
FROM (SELECT max(position) AS last, count(*) AS count FROM numbered) found
WHERE found.count > 0
RETURNING found.count
"""


async def number_changes(tx: Transaction, limit: int) -> int:
    """Give positions to up to *limit* committed changes that have none; return how many had none.

    The counter's lock is held until the commit, and each statement after it sees what was committed
    before: so whoever reads a position reads all lower ones, now and later.
    """
    position = await tx.conn.fetchval(LOCK_COUNTER)
    if position is None:  # a database that was restored, or emptied
        await tx.conn.execute(MAKE_COUNTER)
        position = await tx.conn.fetchval(LOCK_COUNTER)
    return int(await tx.conn.fetchval(NUMBER, position, limit) or 0)


# One snapshot: what is pruned meanwhile is either read or known as lost.
READ_PAGE = """
SELECT counter.epoch, counter.position AS newest, counter.pruned,
    EXISTS (SELECT FROM new_job_changes) AS unnumbered, page.*
FROM job_change_counter counter LEFT JOIN LATERAL (
    SELECT c.position, c.job_id, c.at, c.status, c.attempt, c.phase, c.reason,
        j.name, j.docker_image, j.labels, j.project
    FROM job_changes c CROSS JOIN LATERAL (
        SELECT name, docker_image, labels, project FROM jobs WHERE id = c.job_id OFFSET 0) j
    WHERE c.position > $1 ORDER BY c.position LIMIT (SELECT $2::integer)) page ON true
ORDER BY page.position
"""
_COUNTER_COLUMNS = 4


async def read_page(
    conn: Connection, after: ChangePosition | None, limit: int
) -> ChangePage | None:
    """Read up to *limit* changes *after* a position, None for the newest.

    Return None if there is no counter yet: `number_changes` makes it.
    """
    rows = await conn.fetch(READ_PAGE, 2**62 if after is None else after.number, limit)
    if not rows:
        return None
    epoch, newest, pruned, unnumbered = rows[0][:_COUNTER_COLUMNS]
    if after is None:
        return ChangePage((), ChangePosition(epoch, newest), lost=False, unnumbered=unnumbered)
    if after.epoch != epoch or not pruned <= after.number <= newest:
        return ChangePage((), ChangePosition(epoch, newest), lost=True, unnumbered=unnumbered)
    changes = tuple(_change(row) for row in rows if row["position"] is not None)
    last = ChangePosition(epoch, changes[-1].number) if changes else after
    return ChangePage(changes, last, lost=False, unnumbered=unnumbered)


def _change(row: Any) -> JobChange:
    return JobChange(*row[_COUNTER_COLUMNS:])


# By position: the order of `at` is nearly the same, and what is kept a little too short is no harm.
PRUNE = """
WITH old AS (
    SELECT max(position) AS last FROM (
        SELECT position, at FROM job_changes WHERE position > $1
        ORDER BY position LIMIT (SELECT $3::integer)) oldest
    WHERE at < $2
), deleted AS (
    DELETE FROM job_changes WHERE position > $1 AND position <= (SELECT last FROM old)
)
UPDATE job_change_counter SET pruned = old.last FROM old WHERE old.last IS NOT NULL
RETURNING pruned
"""
LOCK_PRUNED = "SELECT pruned FROM job_change_counter FOR UPDATE"


async def prune_changes(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete the oldest changes from before *before*, at most *limit*; return whether any was."""
    pruned = await tx.conn.fetchval(LOCK_PRUNED)
    if pruned is None:
        return False
    return await tx.conn.fetchval(PRUNE, pruned, before, limit) is not None
