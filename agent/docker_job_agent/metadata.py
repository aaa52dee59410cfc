"""The instance metadata service (IMDSv2), and the Spot interruption notices in its answers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from .http_client import Answer, Http

METADATA_TIMEOUT_SECONDS = 2.0


class Notice(NamedTuple):
    """A Spot interruption notice."""

    action: str
    at: datetime


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
        at = now + timedelta(minutes=2)
    return Notice(action, at if at.tzinfo else at.replace(tzinfo=timezone.utc))


def seconds_until_stop(notice: Notice, margin_seconds: float, now: datetime) -> float:
    """Return the seconds for which the container may still run after a notice, from 0."""
    return max(0.0, (notice.at - now).total_seconds() - margin_seconds)


class Metadata:
    """The instance metadata service, IMDSv2: every request has a session token."""

    TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
    NOTICE_PATH = "/latest/meta-data/spot/instance-action"
    REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
    TOKEN_TTL_SECONDS = 21600  # six hours, the longest that EC2 gives

    def __init__(self, http: Http) -> None:
        self._http = http
        self._token: str | None = None

    def get(self, path: str) -> str | None:
        """Return the text at `path`, None if there is none now; raises UnreachableError."""
        answer = self._ask(path)
        if answer is not None and answer.status == 401:  # expired: renew it and repeat
            self._token = None
            answer = self._ask(path)
        return answer.text if answer is not None and answer.status == 200 else None

    def _ask(self, path: str) -> Answer | None:
        if self._token is None:
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(self.TOKEN_TTL_SECONDS)}
            answer = self._http.request("PUT", self.TOKEN_PATH, ttl)
            if answer.status != 200:
                return None
            self._token = answer.text
        return self._http.request("GET", path, {"X-aws-ec2-metadata-token": self._token})


def metadata_service(url: str | None) -> Metadata | None:
    """Return the service at `url`, on a connection of its own; None without a URL."""
    return Metadata(Http(url, METADATA_TIMEOUT_SECONDS)) if url else None
