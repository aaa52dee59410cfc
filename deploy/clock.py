"""This machine's clock beside AWS's, by the header `Date` that every answer has.

EC2 takes a signature for five minutes before and after its time, STS for fifteen; what is refused
has the codes of wrong or expired credentials, such as `SignatureDoesNotMatch: Signature expired`.
https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
https://github.com/aws/aws-cli/issues/6676
"""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

WARN_SECONDS, FAIL_SECONDS = 60.0, 300.0
SYNCHRONISE = f"synchronise the clock (NTP): AWS refuses calls that are {FAIL_SECONDS:.0f} s off"

OFF_TIME = ("Signature expired", "Signature not yet current")
"""What the message of such a refusal begins with."""


def ahead(answer: Mapping[str, Any], now: datetime) -> float | None:
    """Return by how many seconds AWS's clock is ahead of *now*; None: the answer has no time."""
    headers = (answer.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    try:
        return (parsedate_to_datetime(headers["date"]) - now).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def describe(seconds: float) -> str:
    """Return the difference in words."""
    side = "behind" if seconds > 0 else "ahead of"
    return f"this machine is {abs(seconds):.0f} s {side} AWS"


def trouble(answer: Mapping[str, Any], now: datetime) -> str:
    """Return why AWS refuses calls at *now*, or an empty text. Pure."""
    seconds = ahead(answer, now)
    if seconds is not None:
        return describe(seconds) if abs(seconds) > FAIL_SECONDS else ""
    message = str((answer.get("Error") or {}).get("Message") or "")
    return "AWS refuses the time of its signatures" if message.startswith(OFF_TIME) else ""
