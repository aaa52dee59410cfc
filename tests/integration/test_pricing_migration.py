"""The time of the first prices once a deployment has 0006_pricing.sql."""

from pathlib import Path

import pytest

from services.launcher import NAME
from tests.support.rows.old_schema import old_schema

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"
OUTBOX = "CREATE TABLE outbox (name text, body bytea)"
DUE = "SELECT due_at > now() + interval '4 minutes' FROM pricing"


@pytest.mark.parametrize("launches", [0, 7])
async def test_prices_come_at_once_and_after_an_upgrade_when_the_api_is_of_this_release_too(
    database_url: str, tmp_path: Path, launches: int
) -> None:
    async with old_schema(database_url, tmp_path, SQL, "0001*.sql") as old:
        await old.conn.execute(OUTBOX)
        await old.conn.execute("UPDATE tellings SET told = $1", launches)
        await old.migrate("*.sql")
        assert await old.conn.fetchval(DUE) is (launches > 0)
