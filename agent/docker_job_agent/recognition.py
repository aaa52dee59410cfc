"""Recognition of the API's own answers.

The agent sends a random value with each call, and the API returns it. What answers in the API's
place (a load balancer, a proxy, a login page, a cache) does not: it does not know this header, and
an answer to another call has another value. That suffices, since it guards against accidents.
Whoever could forge the mark sits in the middle of the connection and sees the token too: against
that there is TLS.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from .http_client import Answer

CALL = "X-Docker-Job-Call"
ANSWER = "x-docker-job-answer"
REFUSAL_SECONDS = 30.0  # for which unmarked refusals must last before they count
UNDOUBTED = (408, 409, 413, 425, 429)  # of an API's `stop` and of what is repeated or too large


class Call(NamedTuple):
    """The mark of one call."""

    value: str

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers to send."""
        return {CALL: self.value}


def new_call() -> Call:
    """Return a mark that no other call has."""
    return Call(os.urandom(16).hex())


class Recognition:
    """Knowledge of whether this API marks its answers, shared by all threads.

    An older API returns no mark: then the form of its answers counts. From the first marked answer
    on no other counts.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.marked = False
        self._monotonic = monotonic
        self._refused_at: float | None = None

    def judge(self, answer: Answer, call: Call) -> Answer:
        """Return the answer, as foreign if it cannot be the API's to this call."""
        mark = answer.headers.get(ANSWER)
        if mark == call.value:
            self.marked = True
            return answer
        return answer._replace(foreign=self.marked or mark is not None)

    def doubt(self, answer: Answer) -> Answer:
        """Return an unmarked refusal as foreign until refusals have lasted for a while.

        A gateway refuses with the same form as an older API, which goes on refusing.
        """
        if answer.status < 400:
            self._refused_at = None
        if self.marked or not 400 < answer.status < 500 or answer.status in UNDOUBTED:
            return answer
        now = self._monotonic()
        if self._refused_at is None:
            self._refused_at = now
        return answer._replace(foreign=answer.foreign or now - self._refused_at < REFUSAL_SECONDS)
