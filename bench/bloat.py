"""The size of outbox, inbox and timers under three compressed days, with our settings and without.

A day is 100,000 rows a table. The services' own statements write, publish, fire and prune them as
fast as one connection can, at the times of a clock that runs along. Autovacuum looks every second
instead of every minute, which is still less often for each row than in a real day, and does not
pause in its work.
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from bench.report import Ceiling, Figure, at_most
from bench.run import Run, percentile
from bench.servers import fresh_database
from operations.migrate import migrate_all, service_dsn
from operations.wiring import SERVICES
from services.scheduler import store as timers
from shared.bus.port import Message
from shared.clock import VirtualClock
from shared.events.cloudevents import new_id
from shared.messaging import store as messages
from shared.postgres.pool import Connection, Database, connect, open_database

PART = "bloat"
DAYS = 3
TABLES = ("outbox", "inbox", "timers")
BATCH, BODY_BYTES, PRUNED_AFTER = 50, 700, 20
DAY_SECONDS = 86_400.0
COMPRESSED = {"autovacuum_naptime": "1s", "autovacuum_vacuum_cost_delay": "0"}
"""What autovacuum waits is compressed with the day."""

RELOAD = "SELECT pg_reload_conf()"
NO_WAITING = "ALTER ROLE scheduler IN DATABASE {database} SET synchronous_commit = off"
"""Sizes do not depend on the disk's latency."""

OPTIONS = """
SELECT c.oid::regclass::text AS name, array_agg(split_part(option, '=', 1)) AS options
FROM pg_class c CROSS JOIN unnest(c.reloptions) AS option
WHERE c.relnamespace = 'scheduler'::regnamespace AND option LIKE 'autovacuum%' GROUP BY 1
"""
DEAD = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = $1::regclass"
SIZE = "SELECT pg_total_relation_size($1::regclass)"
ADD_TIMERS = """
INSERT INTO timers (job_id, attempt, state, due_at, requirements, trace)
SELECT $1::bigint + n, 1, 'waiting', $2, '{"max_lifetime_seconds": 86400}', ''
FROM generate_series(1, $3::integer) AS n
"""


async def measure(run: Run) -> None:
    """Measure three days without the settings, then with them."""
    batches = int(run.pick(2000, 400))
    async with _compressed_waits(run):
        run.log(f"bloat: {DAYS} days of {batches * BATCH:,} rows, twice")
        without = await _three_days(run, batches, ours=False)
        ours = await _three_days(run, batches, ours=True)
    for name, unit, bound in (
        *((f"{table} after {DAYS} days, of its size after one", "times", 1.3) for table in TABLES),
        *((f"dead rows of {table}, most on the last day", "rows", None) for table in TABLES),
        ("leasing what is unpublished, p99 on the last day", "ms", None),
        ("firing what is due, p99 on the last day", "ms", None),
    ):
        goals = () if bound is None else (at_most(bound),)
        ceiling = Ceiling("Postgres's defaults", without[name])
        run.add(
            Figure(part=PART, name=name, value=ours[name], unit=unit, ceiling=ceiling, goals=goals)
        )


@contextlib.asynccontextmanager
async def _compressed_waits(run: Run) -> AsyncIterator[None]:
    admin = await connect(run.servers.database_url)
    try:
        for name, value in COMPRESSED.items():
            await admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await admin.execute(RELOAD)
        yield
    finally:
        for name in COMPRESSED:
            await admin.execute(f"ALTER SYSTEM RESET {name}")
        await admin.execute(RELOAD)
        await admin.close()


async def _three_days(run: Run, batches: int, *, ours: bool) -> dict[str, float]:
    async with fresh_database(run.servers) as url:
        await migrate_all(url, {service.NAME: "bench" for service in SERVICES})
        admin = await connect(url, command_seconds=300)
        database = await admin.fetchval("SELECT current_database()")
        await admin.execute(NO_WAITING.format(database=database))
        clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
        db = await open_database(service_dsn(url, "scheduler", "bench"), "scheduler", clock)
        try:
            await admin.execute("SET search_path = scheduler")
            if not ours:
                await _reset(admin)
            return await Days(admin, db, clock, batches).live()
        finally:
            await admin.close()
            await db.close()


async def _reset(conn: Connection) -> None:
    for row in await conn.fetch(OPTIONS):
        await conn.execute(f"ALTER TABLE {row['name']} RESET ({', '.join(row['options'])})")


class Days:
    """The traffic of one service, and what it leaves."""

    def __init__(self, admin: Connection, db: Database, clock: VirtualClock, batches: int) -> None:
        self._admin = admin
        self._db = db
        self._clock = clock
        self._batches = batches
        self._job = 0
        self._lease_ms: list[float] = []
        self._fire_ms: list[float] = []

    async def live(self) -> dict[str, float]:
        """Live the days; return the figures by their names."""
        sizes: dict[str, float] = {}
        dead = dict.fromkeys(TABLES, 0)
        for day in range(DAYS):
            self._lease_ms, self._fire_ms = [], []
            for number in range(self._batches):
                await self._work()
                self._clock.advance(DAY_SECONDS / self._batches)
                if number % PRUNED_AFTER == 0:
                    await self._prune()
                    for table in TABLES if day == DAYS - 1 else ():
                        dead[table] = max(dead[table], await self._admin.fetchval(DEAD, table) or 0)
            if day == 0:
                sizes = {table: await self._admin.fetchval(SIZE, table) for table in TABLES}
        figures = {
            f"{table} after {DAYS} days, of its size after one": (
                await self._admin.fetchval(SIZE, table) / sizes[table]
            )
            for table in TABLES
        }
        figures |= {f"dead rows of {table}, most on the last day": dead[table] for table in TABLES}
        figures["leasing what is unpublished, p99 on the last day"] = percentile(
            self._lease_ms, 0.99
        )
        figures["firing what is due, p99 on the last day"] = percentile(self._fire_ms, 0.99)
        return figures

    async def _work(self) -> None:
        """Accept, fire and publish one batch."""
        loop = asyncio.get_running_loop()
        sent = [
            Message(name="InstanceRequested", id=new_id(), body=random.randbytes(BODY_BYTES))
            for _ in range(BATCH)
        ]
        handled = [uuid.uuid4() for _ in range(BATCH)]
        async with self._db.transaction() as tx:
            await tx.conn.execute(messages.APPEND_OUTBOX, *messages.columns(sent), tx.now)
            await tx.conn.fetch(messages.CLAIM_INBOX, handled, ["JobScheduled"] * BATCH, tx.now)
            await tx.conn.execute(ADD_TIMERS, self._job, tx.now, BATCH)
        self._job += BATCH
        began = loop.time()
        async with self._db.transaction() as tx:
            await timers.fire_due(tx, BATCH)
        self._fire_ms.append(1000 * (loop.time() - began))
        async with self._db.connection() as conn:
            began, now = loop.time(), self._db.clock.now()
            until = now + timedelta(seconds=30)
            leased = await messages.lease_outbox(
                conn, now=now, until=until, token=uuid.uuid4(), limit=BATCH
            )
            self._lease_ms.append(1000 * (loop.time() - began))
            await messages.mark_published(conn, [each.id for each in leased], now)

    async def _prune(self) -> None:
        before = self._clock.now() - timedelta(seconds=DAY_SECONDS)
        more = True
        while more:
            async with self._db.transaction() as tx:
                more = await messages.prune(tx.conn, before, 5000)
                more |= await timers.prune_settled(tx, before, 5000)
