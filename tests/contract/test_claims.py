"""The rows that each claim visits among very many waiting rows unknown to the planner.

A claim that names its rows by a key and by a state too may be answered from the index over all that
is in that state: right, and as slow as there are many. It is seen only in a burst, when statistics
are old, or where a plan is: a prepared statement keeps the one of its sixth run.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from shared.postgres.pool import Connection, Database, connect
from tests.support.rows.claims import (
    CLAIMS_OR_CHANGES,
    ELSEWHERE,
    PLACES,
    Claim,
    literal,
    statements,
)
from tests.support.rows.waiting_rows import FEW_ROWS, analyze, empty, fill_settled, fill_waiting

OpenDatabase = Callable[[str], Awaitable[Database]]

PER_ROW = 12
"""How often a row may be visited: by its index, its heap, and each node above, in turn."""


def visited(plan: dict[str, Any]) -> float:
    """Count the rows that all nodes of *plan* read, including those they discarded."""
    removed = sum(value for key, value in plan.items() if key.startswith("Rows Removed by"))
    own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return float(own + sum(visited(each) for each in plan.get("Plans", ())))


class Prepared:
    """The claims as prepared statements of one connection, each run and undone."""

    def __init__(self, conn: Connection, claims: Sequence[Claim]) -> None:
        self._conn = conn
        self._claims = claims
        self._prepared = False

    async def plan(self, kind: str) -> None:
        """Prepare all of them again, for plans of this *kind*, and run each once."""
        await self._conn.execute(f"SET plan_cache_mode = force_{kind}_plan")
        for number, claim in enumerate(self._claims):
            if self._prepared:
                await self._conn.execute(f"DEALLOCATE claim_{number}")
            await self._conn.execute(f"PREPARE claim_{number} AS {statements()[claim.statement]}")
            await self._undone(self._conn.execute, call(number, claim))
        self._prepared = True

    async def too_many(self) -> dict[str, float]:
        """Return how many rows each claim visits that visits too many."""
        counts = {}
        for number, claim in enumerate(self._claims):
            sql = f"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON) {call(number, claim)}"
            (row,) = json.loads((await self._undone(self._conn.fetch, sql))[0][0])
            count = visited(row["Plan"])
            if count > PER_ROW * claim.batch + 10:
                counts[claim.statement] = count
        return counts

    async def _undone(self, run: Callable[[str], Awaitable[Any]], sql: str) -> Any:
        block = self._conn.transaction()
        await block.start()
        try:
            return await run(sql)
        finally:
            await block.rollback()


def call(number: int, claim: Claim) -> str:
    """Return the EXECUTE of the prepared *claim*."""
    arguments = ", ".join(literal(each) for each in claim.args)
    return f"EXECUTE claim_{number}({arguments})" if arguments else f"EXECUTE claim_{number}"


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("place", PLACES)
async def test_no_claim_visits_more_than_its_batch(
    place: str, rows: int, database_url: str, service_db: OpenDatabase
) -> None:
    await check(place, database_url, service_db, rows)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", PLACES)
async def test_no_claim_visits_more_than_its_batch_among_a_million(
    place: str, database_url: str, service_db: OpenDatabase
) -> None:
    await check(place, database_url, service_db, 1_000_000)


async def check(place: str, database_url: str, service_db: OpenDatabase, rows: int) -> None:
    """Check each claim's plan, of either kind, under each kind of old statistics."""
    schema, tables, claims = PLACES[place]
    wrong: dict[str, dict[str, float]] = {}
    admin = await connect(database_url, command_seconds=None)
    db = await service_db(schema)
    try:
        async with db.connection() as conn:
            prepared = Prepared(conn, claims)
            await empty(admin, schema, tables)
            await analyze(admin, tables)
            await prepared.plan("generic")
            await fill_settled(admin, tables)
            await fill_waiting(admin, tables, rows)
            wrong["planned for an empty table"] = await prepared.too_many()
            await prepared.plan("custom")
            wrong["analyzed when it was empty"] = await prepared.too_many()
            await empty(admin, schema, tables)
            await fill_settled(admin, tables)
            await analyze(admin, tables)
            await fill_waiting(admin, tables, rows)
            for kind in ("generic", "custom"):
                await prepared.plan(kind)
                wrong[f"analyzed when nothing waited, {kind}"] = await prepared.too_many()
            await empty(admin, schema, tables)
            await fill_settled(admin, tables, FEW_ROWS)
            await analyze(admin, tables)
            await prepared.plan("generic")
            await fill_waiting(admin, tables, rows)
            wrong["planned when a few were settled"] = await prepared.too_many()
            for kind in ("generic", "custom"):
                await prepared.plan(kind)
                wrong[f"analyzed when a few were settled, {kind}"] = await prepared.too_many()
    finally:
        await admin.close()
    assert {case: counts for case, counts in wrong.items() if counts} == {}


def test_every_claim_is_looked_at() -> None:
    """A new statement that claims or changes rows must be listed with the others."""
    found = {name for name, sql in statements().items() if CLAIMS_OR_CHANGES.search(sql)}
    listed = {claim.statement for _, _, claims in PLACES.values() for claim in claims}
    assert found - listed - ELSEWHERE == set()
    assert (listed | ELSEWHERE) - statements().keys() == set()
    assert len(listed) > 40
