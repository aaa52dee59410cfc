"""The error of a call that an agent may not make."""

from services.api.keys.failures import WrongProof
from shared.events.causes import Cause

NO_TOKEN = "give the attempt's token as 'Authorization: Bearer …'"  # noqa: S105 - a message


class Refused(WrongProof):
    """The agent may not do this. `status` is the HTTP status of the response.

    `kept`: its attempt has ended, but the log lines or the exit code of this request were kept.
    `settings` of an agent that gets no job.
    """

    def __init__(
        self, status: int, message: str, *, cause: Cause | None = None, kept: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause
        self.kept = kept
        self.settings: dict[str, float] = {}
