"""The end of an instance as its agent reports it: in its `ended` file and in its log."""

import re
from datetime import UTC, datetime

import msgspec

# The agent's final callback asked for another attempt. Agents of earlier releases used other words.
_SCHEDULED = re.compile(r"(final callback|last[ ]word) schedule")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's report of its end. Read leniently: the agent may be of an earlier release."""

    at: str | float | None = None
    reason: str = ""

    def by_interruption(self) -> bool:
        """Return True if a Spot interruption ended the instance."""
        return "interrupted" in self.reason or _SCHEDULED.match(self.reason) is not None

    def time(self) -> datetime | None:
        """Return the time of the end; None if there is none or it cannot be read."""
        try:
            if isinstance(self.at, str):
                at = datetime.fromisoformat(self.at)
                return at if at.tzinfo else at.replace(tzinfo=UTC)
            return None if self.at is None else datetime.fromtimestamp(self.at, UTC)
        except (ValueError, OverflowError, OSError):
            return None
