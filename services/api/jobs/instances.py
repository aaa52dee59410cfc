"""Instances that exist now as far as is known: SQL and values."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from services.api.jobs.costs import hourly_with, price_of, rounded
from services.api.jobs.model import PHASES
from services.api.jobs.retention import LATE_TERMINATION
from shared.events.costs import OtherPrices
from shared.events.events import Market
from shared.postgres.pool import Connection

MOST = 20_000
"""The instances that are looked at, those of attempts that have not ended first."""


class Place(Struct, frozen=True, order=True):
    """The place of an instance in the order of the list: the oldest first."""

    since: datetime
    job_id: int
    attempt: int


class RunningInstance(Struct, frozen=True, kw_only=True):
    """An instance that is launched and not known to be terminated, and the attempt that has it.

    `cost_so_far_usd` is an estimate: the prices at the launch of it, of its public IPv4 address and
    of its volume, for the time since then.
    """

    instance_id: str
    instance_type: str | None
    zone: str | None
    market: Market | None
    hourly_price_usd: float | None
    on_demand_hourly_price_usd: float | None
    since: datetime
    job_id: int
    job_name: str | None
    attempt: int
    phase: str
    cost_so_far_usd: float | None

    @property
    def place(self) -> Place:
        """Its place in the list."""
        return Place(self.since, self.job_id, self.attempt)


# `attempts_unconfirmed` has them, those that have not ended first if it is read backwards. An
# attempt may have ended before its launch was reported: then it has no time of that.
LIST_INSTANCES = """
SELECT page.*, jobs.name AS job_name FROM (
    SELECT * FROM (
        SELECT job_id, number, state, instance_id, instance_type, zone, market, hourly_price_usd,
            on_demand_hourly_price_usd, other_prices,
            coalesce((entered ->> 'booting')::timestamptz, due_at) AS since
        FROM (
            SELECT * FROM attempts WHERE instance_id IS NOT NULL AND instance_gone_at IS NULL
            ORDER BY ended_at DESC LIMIT (SELECT $6::integer)
        ) unconfirmed
        WHERE (dies_by IS NULL OR dies_by > $1) AND ($7::text IS NULL
            OR EXISTS (SELECT FROM jobs WHERE id = unconfirmed.job_id AND project = $7))
    ) own
    WHERE (since, job_id, number) > ($2, $3::bigint, $4::integer)
    ORDER BY since, job_id, number LIMIT (SELECT $5::integer)
) page JOIN jobs ON jobs.id = page.job_id
ORDER BY since, job_id, number
"""


async def list_instances(
    conn: Connection, now: datetime, after: Place, limit: int, project: str | None = None
) -> list[RunningInstance]:
    """Load up to *limit* instances behind *after*, of one project or all, the oldest first.

    One that must have ended a day ago is taken for terminated, as in `retention.py`.
    """
    rows = await conn.fetch(
        LIST_INSTANCES,
        now - LATE_TERMINATION,
        after.since,
        after.job_id,
        after.attempt,
        limit,
        MOST,
        project,
    )
    return [_instance(row, now) for row in rows]


def _instance(row: Any, now: datetime) -> RunningInstance:
    price, seconds = row["hourly_price_usd"], (now - row["since"]).total_seconds()
    other = msgspec.convert(row["other_prices"], OtherPrices | None)
    return RunningInstance(
        instance_id=row["instance_id"],
        instance_type=row["instance_type"],
        zone=row["zone"],
        market=row["market"],
        hourly_price_usd=price,
        on_demand_hourly_price_usd=row["on_demand_hourly_price_usd"],
        since=row["since"],
        job_id=row["job_id"],
        job_name=row["job_name"],
        attempt=row["number"],
        phase=PHASES.get(row["state"], "ended"),
        cost_so_far_usd=rounded(price_of(seconds, hourly_with(price, other))),
    )
