"""The end of an instance as its agent reports it: in its `ended` file and in its log."""

from datetime import UTC, datetime

import msgspec


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's own last word. Read leniently: the agent may be older than we are."""

    at: str | float | None = None
    reason: str = ""

    def by_interruption(self) -> bool:
        """Whether the Spot market took the instance: the last word was then to schedule again."""
        return "interrupted" in self.reason or self.reason.startswith("last word schedule")

    def moment(self) -> datetime | None:
        """The moment that it names, if it names one."""
        try:
            if isinstance(self.at, str):
                moment = datetime.fromisoformat(self.at)
                return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return None if self.at is None else datetime.fromtimestamp(self.at, UTC)
        except (ValueError, OverflowError, OSError):
            return None
