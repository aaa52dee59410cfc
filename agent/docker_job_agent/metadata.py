"""The instance metadata service (IMDSv2), and the Spot interruption notices in its answers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from .errors import UnreachableError
from .http_client import Answer, Http
from .log import now_utc

METADATA_TIMEOUT_SECONDS = 2.0
NOTICE_SECONDS = 120.0
LATE_SECONDS = 30.0  # for which an instance may outlive its notice, by the service's clock
WRONG_CLOCK = timedelta(seconds=60)  # from here on the instance's clock counts as wrong


class Notice(NamedTuple):
    """A Spot interruption notice."""

    action: str
    at: datetime


class Reading(NamedTuple):
    """A text of the service, and the time of the service's own clock, if it gave one."""

    text: str
    served_at: datetime | None


def parse_notice(text: str, now: datetime) -> Notice | None:
    """Return the notice in the service's answer, None if it has none.

    A notice without a valid time is due in two minutes.

    The form is `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}` (EC2 user guide, "Spot
    Instance interruption notices"), and two minutes is what EC2 promises there.
    """
    try:
        body = json.loads(text)
        action = str(body["action"])
    except (ValueError, KeyError, TypeError):
        return None
    try:
        at = datetime.fromisoformat(str(body["time"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        at = now + timedelta(seconds=NOTICE_SECONDS)
    return Notice(action, at if at.tzinfo else at.replace(tzinfo=timezone.utc))


def seconds_until_stop(
    notice: Notice, margin_seconds: float, now: datetime, served_at: datetime | None = None
) -> float:
    """Return the seconds for which the container may still run after a notice, from 0.

    The notice's time is compared with the clock of the service that gave it, or without that with
    *now*, the instance's clock, which may be wrong. What cannot be, since a notice is two minutes
    long and the instance still runs, counts as two minutes from now. A hibernation begins at once
    (EC2 user guide, "Spot Instance interruption notices").
    """
    if notice.action == "hibernate":
        return 0.0
    left = (notice.at - (served_at or now)).total_seconds()
    if left < (0.0 if served_at is None else -LATE_SECONDS):
        left = NOTICE_SECONDS
    return max(0.0, min(left, NOTICE_SECONDS) - margin_seconds)


class Metadata:
    """The instance metadata service, IMDSv2: every request has a session token."""

    TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
    NOTICE_PATH = "/latest/meta-data/spot/instance-action"
    REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
    DOCUMENT_PATH = "/latest/dynamic/instance-identity/document"
    TOKEN_TTL_SECONDS = 21600  # six hours, the longest that EC2 gives

    def __init__(self, http: Http) -> None:
        self._http = http
        self._token: str | None = None
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the time for signatures, by the service's clock if the instance's is wrong.

        AWS refuses a signature that is five minutes old, or from the future.
        """
        return now_utc() + self._ahead

    def get(self, path: str) -> str | None:
        """Return the text at `path`, None if there is none now; raises UnreachableError."""
        reading = self.read(path)
        return reading.text if reading else None

    def read(self, path: str) -> Reading | None:
        """Return the text at `path` and the service's time, None if there is none now.

        Raises UnreachableError.
        """
        answer = self._ask(path)
        if answer is not None and answer.status == 401:  # expired: renew it and repeat
            self._token = None
            answer = self._ask(path)
        if answer is None or answer.status != 200:
            return None
        served_at = read_date(answer.headers.get("date"))
        if served_at is not None:
            ahead = served_at - now_utc()
            self._ahead = ahead if abs(ahead) > WRONG_CLOCK else timedelta(0)
        return Reading(answer.text, served_at)

    def _ask(self, path: str) -> Answer | None:
        if self._token is None:
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(self.TOKEN_TTL_SECONDS)}
            answer = self._http.request("PUT", self.TOKEN_PATH, ttl)
            if answer.status != 200:
                return None
            self._token = answer.text
        return self._http.request("GET", path, {"X-aws-ec2-metadata-token": self._token})


def read_date(text: str | None) -> datetime | None:
    """Return the time of a Date header, None if there is none or it is malformed."""
    try:
        at = parsedate_to_datetime(text or "")
    except (TypeError, ValueError, OverflowError):  # TypeError up to Python 3.9
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def metadata_service(url: str | None) -> Metadata | None:
    """Return the service at `url`, on a connection of its own; None without a URL."""
    return Metadata(Http(url, METADATA_TIMEOUT_SECONDS)) if url else None


def seconds_since_launch(metadata: Metadata | None) -> float | None:
    """Return the age of the instance, by the metadata service's own clock; None: it is not known.

    `pendingTime` is "the date and time that the instance was launched" (EC2 user guide, "Instance
    identity documents").
    """
    try:
        reading = metadata.read(Metadata.DOCUMENT_PATH) if metadata else None
    except UnreachableError:
        return None
    if reading is None or reading.served_at is None:
        return None
    try:
        given = str(json.loads(reading.text)["pendingTime"]).replace("Z", "+00:00")
        age = (reading.served_at - datetime.fromisoformat(given)).total_seconds()
    except (ValueError, KeyError, TypeError):  # TypeError: a time without its zone, too
        return None
    return max(0.0, age)
