"""SQL of the consoles of instances that did not boot, or ended by themselves."""

from collections.abc import Mapping, Sequence

from services.api.jobs.model import Attempt
from services.api.jobs.store import Owner
from shared.console_text import NOTE, readable
from shared.events.events import InstanceTerminated
from shared.postgres.pool import Connection, Transaction

CHARACTERS = 4000
"""The most of a console that is kept: its end. The reaper publishes no more."""

KEEP_CONSOLES = """
INSERT INTO attempt_consoles (job_id, attempt, output)
SELECT DISTINCT ON (job_id, attempt) job_id, attempt, output
FROM unnest($1::bigint[], $2::integer[], $3::text[]) AS new (job_id, attempt, output)
ORDER BY job_id, attempt
ON CONFLICT (job_id, attempt) DO UPDATE SET output = excluded.output
    WHERE NOT starts_with(excluded.output, $4) AND (starts_with(attempt_consoles.output, $4)
        OR char_length(excluded.output) > char_length(attempt_consoles.output))
"""


async def keep_consoles(tx: Transaction, found: Mapping[Owner, str]) -> None:
    """Keep these consoles, by attempt: the longest of each, a note only if there is none.

    The reaper publishes one that it read early, and then the longer one, which may be received in
    any order.
    """
    if found:
        await tx.conn.execute(
            KEEP_CONSOLES,
            [each.job_id for each in found],
            [each.attempt for each in found],
            list(found.values()),
            NOTE,
        )


LOAD_CONSOLES = "SELECT attempt, output FROM attempt_consoles WHERE job_id = $1"


async def load_consoles(
    conn: Connection, job_id: int, attempts: Sequence[Attempt]
) -> dict[int, str]:
    """Load the consoles of a job by attempt; only an attempt that was lost can have one."""
    if not any(each.cause == "lost" for each in attempts):
        return {}
    return {row["attempt"]: row["output"] for row in await conn.fetch(LOAD_CONSOLES, job_id)}


def console_of(fact: InstanceTerminated, attempt: Attempt) -> str | None:
    """Return what is kept of the console of a lost attempt's instance; None: nothing."""
    if attempt.cause != "lost" or attempt.instance_id not in (None, fact.instance_id):
        return None
    return readable(fact.console_output or "")[-CHARACTERS:].strip() or None
