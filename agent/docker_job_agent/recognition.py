"""Recognition of the API's own answers.

The agent sends a random value with each call, and the API returns it. What answers in the API's
place (a load balancer, a proxy, a login page, a cache) does not: it does not know this header, and
an answer to another call has another value. That suffices, since it guards against accidents.
Whoever could forge the mark sits in the middle of the connection and sees the token too: against
that there is TLS.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .http_client import Answer

CALL = "X-Docker-Job-Call"
ANSWER = "x-docker-job-answer"


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

    def __init__(self) -> None:
        self.marked = False

    def judge(self, answer: Answer, call: Call) -> Answer:
        """Return the answer, as foreign if it cannot be the API's to this call."""
        mark = answer.headers.get(ANSWER)
        if mark == call.value:
            self.marked = True
            return answer
        return answer._replace(foreign=self.marked or mark is not None)
