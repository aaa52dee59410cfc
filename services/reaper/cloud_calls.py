"""Calls of the cloud that a fault of the deployment forbids: an alert for each, and `/readyz`.

    a call is refused ─▶ a row of `refused_calls`, an alert ─ each hour ─▶ an alert again

An instance that cannot be terminated costs money, so the log of each try is not enough. A row
counts for `LASTS` after the last refusal. A call that is answered does not end it at once: of one
batch some instances may be allowed and others not.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, TypeVar

from services.reaper.store import refused_calls
from shared.clock import Clock
from shared.compute.port import ComputeError
from shared.compute.timeouts import answer_within
from shared.log import get_logger
from shared.postgres.errors import is_transient
from shared.postgres.pool import Connection, Database

T = TypeVar("T")

Call = Literal["terminate", "list", "describe", "confirm", "receive", "acknowledge"]

FAILS: Mapping[str, str] = {
    "terminate": "instances cannot be terminated, and cost money",
    "list": "instances cannot be listed, so lost ones are not found",
    "describe": "the end of an instance cannot be confirmed",
    "confirm": "the end of a missing instance cannot be confirmed",
    "receive": "the interruption queue cannot be read, so only agents report interruptions",
    "acknowledge": "notices cannot be deleted from the interruption queue, and come again",
}

WAITS_SECONDS = 20.0
"""The longest that the receiving of notices may wait for one by itself: SQS's own maximum.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
"""

LASTS = timedelta(minutes=2)
"""Longer than the longest pause between two tries of a call."""

ALERT_AGAIN = timedelta(hours=1)

_log = get_logger(service="reaper", part="cloud_calls")


@dataclass(frozen=True)
class CloudCalls:
    """Makes calls with a deadline of *seconds*, and records those that are forbidden."""

    db: Database
    clock: Clock
    seconds: float

    def that_wait(self) -> "CloudCalls":
        """Return the same for calls that wait for what they answer: the deadline comes later."""
        return replace(self, seconds=self.seconds + WAITS_SECONDS)

    async def answer(self, call: Call, awaited: Awaitable[T]) -> T:
        """Return what *awaited* answers. Raises a `ComputeError`; `Unknown` after the deadline."""
        try:
            return await answer_within(self.seconds, awaited)
        except ComputeError as error:
            if error.change and await self._record(call, error):
                _log.error(FAILS[call], message=str(error), to_change=error.change)
            raise

    async def _record(self, call: Call, error: ComputeError) -> bool:
        """Record the refusal; return whether an alert is due. A lost record is no failure."""
        try:
            async with self.db.connection() as conn:
                return await refused_calls.save(
                    conn, call, error, self.clock.now(), alert_again=ALERT_AGAIN, lasts=LASTS
                )
        except Exception as failure:
            if not is_transient(failure):
                raise
            return True


async def degraded(clock: Clock, conn: Connection) -> Mapping[str, str]:
    """Return the calls that are forbidden now, for `/readyz`."""
    found = await refused_calls.load(conn, clock.now() - LASTS)
    return {
        each.call: f"{FAILS[each.call]}, since {each.since:%Y-%m-%dT%H:%M:%SZ}: {each.message}"
        for each in found
        if each.call in FAILS
    }
