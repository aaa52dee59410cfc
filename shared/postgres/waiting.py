"""Waiting for a database: it may start, be migrated, or be mended later than this process."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from shared.backoff import RECONNECT
from shared.postgres.errors import DatabaseUnavailable, is_not_ours, is_transient, trouble_of

Result = TypeVar("Result")

REMINDER_TRIES = 12
"""Tries between two lines of level error, about a minute; the first comes within a second."""


async def wait_for_database(act: Callable[[], Awaitable[Result]], log: Any) -> Result:
    """Repeat *act*, which uses the database, until it succeeds; *log* says what is wrong.

    A wrong password or a missing schema is waited for too, since an operator or the migration
    corrects it while this process waits. Raises errors that are not the database's.
    """
    tries = 0
    while True:
        try:
            return await act()
        except Exception as error:
            if not is_transient(error):
                raise
            tries += 1
            lasting = is_not_ours(error) or isinstance(error, DatabaseUnavailable)
            needs_operator = lasting and tries % REMINDER_TRIES == 3
            (log.error if needs_operator else log.warning)(
                "waiting for the database",
                database=trouble_of(error),
                error=str(error),
                tries=tries,
            )
            await asyncio.sleep(RECONNECT.delay(tries, random.random()))
