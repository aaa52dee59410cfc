"""Preparation of a restored database for the services: `python -m operations.resend`.

A dump is one consistent snapshot of all four schemas. Three things are outside of it:

- **The broker.** A batch with an event that was not yet consumed at the time of the dump is in no
  queue now (the memory bus has none after a stop, RabbitMQ's are purged, since they hold events of
  jobs that the restored tables do not have). It is marked as unsent again, for the relay.
- **Later jobs.** Jobs that were accepted after the dump are lost, but clients know their ids, and
  instances have them in tokens and tags. No id is used twice: the next job's is far beyond any
  former one.
- **Followers.** Clients of `GET /events` have positions in an order that is lost. They get a
  `reset`, and read the list again.

Instances of those jobs are orphaned: the API answers their agents with a stop, and the reaper ends
instances that only the cloud's list shows. Attempts that have ended meanwhile are found lost, and
run again. Run it as the admin, with the services stopped; it may be repeated.
"""

import asyncio
import os
import sys

from msgspec import Struct

from operations.lost_events import resend
from operations.wiring import PAIRS
from shared.postgres.pool import connect
from shared.runtime.process import login
from shared.settings import EXIT_SETTING, BadSetting, Settings
from shared.terminal import print_line

JOB_IDS_LEFT_OUT = 1_000_000

LEAVE_OUT_IDS = """
SELECT setval(sequence::regclass, pg_sequence_last_value(sequence::regclass) + $1)
FROM pg_get_serial_sequence('api.jobs', 'id') AS sequence
WHERE pg_sequence_last_value(sequence::regclass) IS NOT NULL
"""


# The ids of events that clients have would mean other changes now. With the epoch of a new counter
# they mean nothing, and those clients read the list again.
FORGET_CHANGES = "TRUNCATE api.new_job_changes, api.job_changes, api.job_change_counter"


class Settled(Struct, frozen=True):
    """The result: batches to be sent again, and the id after which jobs go on (None: no job)."""

    resent: int
    ids_after: int | None


async def settle(admin_dsn: str) -> Settled:
    """Prepare the restored database for the services, in one transaction."""
    conn = await connect(admin_dsn, command_seconds=None)
    try:
        async with conn.transaction():
            resent = await resend(conn, PAIRS)
            await conn.execute(FORGET_CHANGES)
            return Settled(resent, await conn.fetchval(LEAVE_OUT_IDS, JOB_IDS_LEFT_OUT))
    finally:
        await conn.close(timeout=5)


def summary(settled: Settled) -> str:
    """Describe the result in one line."""
    ids = (
        "" if settled.ids_after is None else f"; new jobs have ids from {settled.ids_after + 1} on"
    )
    return f"events to be sent again: {settled.resent}{ids}"


def main() -> int:
    """Run on the database of the settings, like `operations.migrate`."""
    settings = Settings(os.environ)
    try:
        admin = settings.text("DATABASE_USER", "postgres")
        dsn = login(settings, admin, "DATABASE", "postgresql://localhost/docker_job")
        print_line(summary(asyncio.run(settle(dsn))))
    except (BadSetting, OSError) as error:
        print_line(f"docker-job restored: {error}", error=True)
        return EXIT_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
