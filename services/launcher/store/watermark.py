"""SQL over the watermark: the counter of published launches, and the oldest open batch."""

from datetime import datetime

from shared.postgres.pool import Transaction

COUNT_LAUNCHES = "UPDATE tellings SET told = told + $1 RETURNING told"


async def count_launches(tx: Transaction, more: int) -> int:
    """Give *more* launches numbers; return the last one. Lock the counter until the commit."""
    launch_sequence: int = await tx.conn.fetchval(COUNT_LAUNCHES, more)
    return launch_sequence


LOCK_LAUNCH_COUNT = "SELECT told FROM tellings FOR SHARE"


async def lock_launch_count(tx: Transaction) -> int:
    """Return the last number. Every launch up to it is committed, and no other until we commit."""
    launch_sequence: int = await tx.conn.fetchval(LOCK_LAUNCH_COUNT)
    return launch_sequence


OLDEST_ASKED = "SELECT min(asked_at) FROM batches WHERE settled_at IS NULL"


async def oldest_asked(tx: Transaction) -> datetime | None:
    """Return when the oldest batch without a definite answer was first asked for."""
    asked_at: datetime | None = await tx.conn.fetchval(OLDEST_ASKED)
    return asked_at
