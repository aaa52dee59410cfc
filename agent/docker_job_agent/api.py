"""Calls of the API, and the meaning of its answers.

What stands between agent and API (a load balancer, a proxy, a login page) answers too. Only the
API's own answers decide anything: a page of a proxy must not stop a container or lose a result.
`recognition.py` tells them apart.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from .environment import Config
from .errors import UnreachableError
from .http_client import Answer, Http
from .log import log
from .recognition import UNDOUBTED, Recognition, new_call
from .retries import backoff_seconds, jitter

API_TIMEOUT_SECONDS = 10.0
REFUSAL_PAUSES = (0.5, 1.0)  # before the further tries of a call that the API itself has refused


def is_definite(status: int) -> bool:
    """Return whether a status is the API's decision, and no reason to repeat the call."""
    return status < 500 and status not in (408, 425, 429)


def is_outage(status: int) -> bool:
    """Return whether a status means that the API answers no call at present."""
    return status in (408, 425, 429, 502, 503, 504)


def fields_of(answer: Answer) -> dict[str, Any]:
    """Return the fields of an answer's JSON object, none if it is none."""
    body = answer.json()
    return body if isinstance(body, dict) else {}


def is_ours(answer: Answer) -> bool:
    """Return whether an answer is the API's own.

    That is a JSON object; an error has a `message`, and a 409 has `stop`. The API never redirects.
    """
    body = answer.json()
    if answer.foreign or not isinstance(body, dict) or 300 <= answer.status < 400:
        return False
    if answer.status == 409:
        return body.get("stop") is True
    return answer.status < 400 or isinstance(body.get("message"), str)


def is_decided(answer: Answer) -> bool:
    """Return whether an answer is the API's own decision, and no reason to repeat the call."""
    return is_definite(answer.status) and is_ours(answer)


def is_refusal(answer: Answer) -> bool:
    """Return whether the API itself refuses the call, which may have been damaged on its way.

    A proxy that takes out the token or cuts the body off makes the API refuse what was right.
    """
    return 400 <= answer.status < 500 and answer.status not in UNDOUBTED and is_ours(answer)


def is_alive(answer: Answer) -> bool:
    """Return whether an answer is that of the API's `GET /healthz`."""
    return answer.status == 200 and fields_of(answer).get("status") == "alive"


def is_over(answer: Answer) -> bool:
    """Return whether the API answers that this attempt, or its token, is no longer valid."""
    return answer.status in (401, 403, 409) and is_ours(answer)


def read_attempt_over(answer: object) -> tuple[str | None, bool]:
    """Return why the attempt is over, and whether its lines or exit code were kept.

    Without a cause nothing is kept: the token is no longer valid.
    """
    body: dict[str, Any] = answer if isinstance(answer, dict) else {}
    cause = body.get("cause")
    return (cause if isinstance(cause, str) else None), body.get("kept") is True


class Api:
    """Calls of one attempt. Each thread that calls has its own instance (`for_another_thread`)."""

    def __init__(self, config: Config, token: str, recognition: Recognition | None = None) -> None:
        self._config = config
        self._token = token
        self._http = Http(config.api_url, API_TIMEOUT_SECONDS, config.api_ca)
        self._recognition = recognition or Recognition()

    def of_attempt(self, config: Config) -> Api:
        """Return the same agent's calls for the attempt that the claim's answer has named."""
        return Api(config, self._token, self._recognition)

    def for_another_thread(self) -> Api:
        """Return the same calls on a connection of their own."""
        return Api(self._config, self._token, self._recognition)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def claim(self, bootstrap_token: str, runtime: str, *, interrupted: bool = False) -> Answer:
        """Claim the attempt, and show the token of all later calls.

        With `interrupted`, give the attempt back: this instance has an interruption notice.
        """
        body: dict[str, Any] = {
            "job_id": self._config.job_id,
            "attempt": self._config.attempt,
            "instance_id": self._config.instance_id,
            "token": self._token,
            "runtime": runtime,
        }
        if interrupted:
            body["interrupted"] = True
        return self._claim({"Authorization": f"Bearer {bootstrap_token}"}, body)

    def claim_by_role(
        self,
        proof: Callable[[str], dict[str, Any]],
        runtime: str,
        *,
        instance_id: str | None = None,
        interrupted: bool = False,
    ) -> Answer:
        """Claim the attempt that is assigned to this instance; `proof` binds it to our token."""
        identity = proof(hashlib.sha256(self._token.encode()).hexdigest())
        body: dict[str, Any] = {"identity": identity, "token": self._token, "runtime": runtime}
        if instance_id is not None:
            body["instance_id"] = instance_id
        if interrupted:
            body["interrupted"] = True
        return self._claim({}, body)

    def recommend_rebalance(self) -> Answer:
        """Report EC2's rebalance recommendation."""
        path = f"/agent/jobs/{self._config.job_id}/report"
        body = {"phase": None, "logs": None, "rebalance": True}
        return self._call("POST", path, self._token, body)

    def report(
        self, phase: str | None, logs: dict[str, Any] | None, detail: str | None = None
    ) -> Answer:
        """Send a heartbeat, with a phase or its new detail, and log lines, if there are any."""
        path = f"/agent/jobs/{self._config.job_id}/report"
        body: dict[str, Any] = {"phase": phase, "logs": logs}
        if detail is not None:
            body["detail"] = detail
        return self._call("POST", path, self._token, body)

    def callback(self, body: dict[str, Any]) -> Answer:
        """Send a callback: the final one, or an interruption notice."""
        return self._call("PUT", f"/callback/{self._config.job_id}", self._token, body)

    def _call(self, method: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        answer = self._insist(method, path, {"Authorization": f"Bearer {token}"}, body)
        answer = self._recognition.doubt(answer)
        if answer.foreign:
            self._http.close()  # the next call may reach another server
        return answer

    def _claim(self, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        """Claim. An unmarked refusal counts only if it is an older API that refuses.

        It is the first answer: only another call shows whether this API marks its answers.
        """
        answer = self._insist("POST", "/agent/claim", headers, body)
        if self._recognition.marked or not is_decided(answer) or answer.status in (202, 409):
            return answer
        if answer.status == 200:
            return answer._replace(foreign="job" not in fields_of(answer))
        return answer._replace(foreign=not self._is_older_api())

    def _is_older_api(self) -> bool:
        try:
            health = self._request("GET", "/healthz", {}, None)
        except UnreachableError:
            return True  # nothing contradicts the answer to the claim
        return not (self._recognition.marked or health.foreign) and is_alive(health)

    def _insist(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any]
    ) -> Answer:
        """Call, and again on a new connection each time that the API itself refuses the call."""
        answer = self._request(method, path, headers, body)
        for pause in REFUSAL_PAUSES:
            if not (self._recognition.marked and is_refusal(answer)):
                break
            self._http.close()
            time.sleep(pause)
            answer = self._request(method, path, headers, body)
        return answer

    def _request(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None
    ) -> Answer:
        call = new_call()
        answer = self._http.request(method, path, {**headers, **call.headers}, body)
        answer = self._recognition.judge(answer, call)
        if not is_ours(answer):
            self._http.close()
        return answer


def call_until_answered(
    what: str, call: Callable[[], Answer], pause: Callable[[float], object]
) -> Answer | None:
    """Repeat `call` with backoff until its answer is definite; None once `pause` returns true."""
    failures = 0
    while True:
        try:
            answer = call()
            if is_decided(answer):
                if answer.status != 202 or failures:  # "wait" comes each second
                    log("answered", what=what, status=answer.status, tries=failures + 1)
                return answer
            trouble = f"status {answer.status}" + ("" if is_ours(answer) else ", not of the API")
        except UnreachableError as error:
            trouble = str(error)
        failures += 1
        log("not answered yet", what=what, trouble=trouble, tries=failures)
        if pause(backoff_seconds(failures, jitter())):
            return None
