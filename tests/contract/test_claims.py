"""What each claim visits, by its plan, among very many waiting rows of which the planner knows nothing.

A claim that names its rows by a key and by a state too may be answered from the index over all that
is in that state: right, and as slow as there are many. It is seen only in a burst, when statistics
are old, or from the sixth run on, when a prepared statement is planned for any arguments.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.db import Connection, connect
from services.migrate import service_dsn
from tests.conftest import PASSWORDS
from tests.contract.claims import (
    BY_ITS_KEY,
    CLAIMS_OR_CHANGES,
    TABLES,
    Claim,
    literal,
    statements,
)
from tests.contract.waiting_rows import fill, forget_statistics

PER_ROW = 12
"""How often a row may be visited: by its index, its heap, and each node above, in turn."""


def visited(plan: dict[str, Any]) -> float:
    """The rows that all nodes of *plan* took in, those that they threw away included."""
    removed = sum(value for key, value in plan.items() if key.startswith("Rows Removed by"))
    own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return own + sum(visited(each) for each in plan.get("Plans", ()))


async def explain(conn: Connection, claim: Claim) -> dict[str, Any]:
    """The plan of *claim* with what each node did, run and undone."""
    arguments = ", ".join(literal(each) for each in claim.args)
    call = f"EXECUTE claim({arguments})" if claim.args else "EXECUTE claim"
    block = conn.transaction()
    await block.start()
    try:
        await conn.execute(f"PREPARE claim AS {statements()[claim.statement]}")
        text = await conn.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON) {call}")
        await conn.execute("DEALLOCATE claim")
    finally:
        await block.rollback()
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


@pytest.mark.parametrize("place", TABLES)
async def test_no_claim_visits_more_than_its_batch(place: str, database_url: str) -> None:
    await check(place, database_url, 100_000)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", TABLES)
async def test_no_claim_visits_more_than_its_batch_among_a_million(
    place: str, database_url: str
) -> None:
    await check(place, database_url, 1_000_000)


async def check(place: str, database_url: str, rows: int) -> None:
    """Fill, and look at each claim's plan, of either kind, under either kind of old statistics."""
    schema, tables, claims = TABLES[place]
    admin = await connect(database_url, command_seconds=None)
    conn = await connect(service_dsn(database_url, schema, PASSWORDS[schema]))
    wrong = {}
    try:
        await fill(admin, schema, tables, rows)
        await conn.execute(f"SET search_path = {schema}")
        for statistics in ("of what is settled", "none"):
            if statistics == "none":
                await forget_statistics(admin, tables)
            for kind in ("force_custom_plan", "force_generic_plan"):
                await conn.execute(f"SET plan_cache_mode = {kind}")
                for claim in claims:
                    count = visited(await explain(conn, claim))
                    if count > PER_ROW * claim.batch + 10:
                        wrong[claim.statement, statistics, kind] = count
    finally:
        await conn.close()
        await admin.close()
    assert wrong == {}


def test_every_claim_is_looked_at() -> None:
    """A new statement that claims or changes rows must be listed with the others."""
    found = {name for name, sql in statements().items() if CLAIMS_OR_CHANGES.search(sql)}
    listed = {claim.statement for _, _, claims in TABLES.values() for claim in claims}
    assert found - listed - BY_ITS_KEY.keys() == set()
    assert (listed | BY_ITS_KEY.keys()) - statements().keys() == set()
    assert len(listed) > 40
