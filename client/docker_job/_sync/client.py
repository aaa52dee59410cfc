# Made by `make client` from docker_job/_async/client.py: change that file.
"""The client: every call of the API, on one API."""

from types import TracebackType
from typing import Self

from docker_job._sync.following import FollowingCalls
from docker_job._sync.keys import KeyCalls
from docker_job._sync.reports import ReportCalls
from docker_job._sync.transport import Transport
from docker_job.target import Target, find_target

TIMEOUT_SECONDS = 30.0
RETRIES = 3


class Client(FollowingCalls, ReportCalls, KeyCalls):
    """The API of docker-job.

    *url*, *key*: default to DOCKER_JOB_URL and DOCKER_JOB_KEY (or DOCKER_JOB_KEY_FILE), then to
    the context in use (or the *context* of that name), then to http://127.0.0.1:8000 without a
    key. *timeout*: the longest wait for an answer, in seconds; streams have none. *retries*: how
    often a request is sent again after a lost connection, a 429, 502, 503 or 504 (ten times as
    often after a 429 that names the time to wait). *insecure*: send the key over plain HTTP to
    another machine. *cacert*: a file with the authorities that are trusted for the API, in PEM,
    in place of the system's.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        context: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        insecure: bool = False,
        cacert: str | None = None,
        target: Target | None = None,
    ) -> None:
        self.target = target or find_target(
            url, key, context=context, insecure=insecure, cacert=cacert
        )
        super().__init__(Transport(self.target, timeout=timeout, retries=retries))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
