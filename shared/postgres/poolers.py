"""Connection poolers between a service and Postgres, which are found at the start and refused.

Statements need the settings of their session: a pooler that gives each transaction another session
refuses them (pgbouncer: https://www.pgbouncer.org/config.html) or, told to ignore them, drops them.
Then statements would run without the schema, without time limits and with other plans.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from shared.log import mask
from shared.postgres.errors import code_of
from shared.settings import PREFIX, BadSetting

SETTINGS = """
SELECT lower(name) AS name, setting FROM pg_settings WHERE lower(name) = ANY ($1::text[])
"""


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Raise `BadSetting` if a connection pooler refuses the settings of the session opened here."""
    try:
        yield
    except Exception as error:
        if code_of(error) == "08P01" and "startup parameter" in str(error):
            text = f"refuses docker-job's settings ({mask(str(error))})"
            raise _bad_setting(text) from error
        raise


async def check_settings(conn: Any, wanted: Mapping[str, str]) -> None:
    """Raise `BadSetting` if *conn* lacks its settings: a connection pooler has dropped them."""
    rows = await conn.fetch(SETTINGS, [*wanted])
    found = {row["name"]: row["setting"] for row in rows}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise _bad_setting(f"drops docker-job's settings ({name} is {found.get(name)!r})")


def _bad_setting(does: str) -> BadSetting:
    return BadSetting(
        f"{PREFIX}DATABASE_URL leads to a connection pooler that {does}: set it to the address of "
        "Postgres itself (docs/operations.md, Postgres: versions and poolers)"
    )
