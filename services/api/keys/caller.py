"""The sender of a request to the users' routes."""

from msgspec import Struct

from services.api.audit.acts import Actor
from shared.events.requirements import DEFAULT_PROJECT


class Caller(Struct, frozen=True, kw_only=True):
    """The sender of a request: an API key, or anyone while there is none (*key* is None then).

    *key* is its prefix. *address* is that of the client, empty if it is unknown.
    """

    key: str | None = None
    name: str | None = None
    scope: str = "admin"
    project: str = DEFAULT_PROJECT
    address: str = ""

    @property
    def actor(self) -> Actor:
        """Return it as the audit trail names it."""
        return Actor(
            key=self.key,
            key_name=self.name,
            project=None if self.key is None else self.project,
            address=self.address,
        )

    @property
    def sees(self) -> str | None:
        """The project whose jobs alone it may see and change; None: those of all projects."""
        return None if self.scope == "admin" else self.project

    @property
    def reads_values(self) -> bool:
        """True if it sees the values of `env_vars` of these jobs; a `read` key does not."""
        return self.scope != "read"


ANYONE = Caller()
"""The caller while there is no key."""
