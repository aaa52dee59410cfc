"""One call to AWS and its outcome, whether it is an answer or a refusal."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from msgspec import Struct

from shared.compute.ec2.client import Aws
from shared.compute.ec2.errors import code_of
from shared.compute.port import ComputeError

DRY_RUN = "DryRunOperation"
"""EC2's answer to a permitted call with `DryRun`, as an error with status 412.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html
"""

DENIED = frozenset(
    {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "UnauthorizedAccess"}
)
MORE = "docs/iam/doctor.json"
"""The policy of the calls that only these checks make."""

MOST_TEXT = 300


class Outcome(Struct, frozen=True, kw_only=True):
    """AWS's answer, or its error: *code* is empty where there is an answer."""

    answer: dict[str, Any]
    code: str = ""
    message: str = ""
    at: datetime | None = None
    """AWS's clock, from the answer's header `Date`."""

    @property
    def is_answer(self) -> bool:
        """True if the call has succeeded."""
        return not self.code

    @property
    def is_denied(self) -> bool:
        """True if no policy allows the call."""
        return self.code in DENIED

    @property
    def error(self) -> str:
        """The error in one line."""
        return f"{self.code}: {self.message}" if self.message else self.code


async def ask(aws: Aws, action: str, *, service: str = "ec2", **parameters: Any) -> Outcome:
    """Make one call that changes nothing; return its outcome, whatever it is."""
    try:
        answer = await aws.read(action, service=service, **parameters)
    except ComputeError as error:
        return _failed(error)
    return Outcome(answer=answer, at=_date(answer))


async def dry_run(aws: Aws, action: str, **parameters: Any) -> Outcome:
    """Make one call of EC2 with `DryRun`."""
    return await ask(aws, action, **parameters, DryRun=True)


def _failed(error: ComputeError) -> Outcome:
    """Read an error: the code is AWS's own, the text that of the port's error."""
    cause = error.__cause__
    response: Mapping[str, Any] = getattr(cause, "response", None) or {}
    code = code_of(cause) if isinstance(cause, Exception) else ""
    return Outcome(
        answer={},
        code=code or type(cause or error).__name__,
        message=shorten(str(error).removeprefix(f"{code}: ")),
        at=_date(response),
    )


def shorten(message: str) -> str:
    """Return AWS's message in one short line, without the encoded part that no user can read."""
    text = " ".join(message.partition("Encoded authorization failure message")[0].split())
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _date(answer: Mapping[str, Any]) -> datetime | None:
    headers = (answer.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return None
