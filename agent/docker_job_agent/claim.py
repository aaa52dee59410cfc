"""The claim: from the start of the agent to the API's answer with the job."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from .api import Api, call_until_answered
from .aws import Aws
from .environment import Config
from .errors import CouldNotRunError, UnreachableError
from .http_client import Answer
from .identity import PROOF_TRIES, Proof
from .job import Settings, read_wait
from .log import log, now_utc
from .metadata import Metadata, metadata_service, parse_notice
from .retries import backoff_seconds, jitter

MOST_REFUSAL = 300


class Claim:
    """The claim of an attempt, repeated until the API gives or refuses the job.

    SIGTERM and the maximum lifetime end it, and nothing else: an instance that waits may be needed
    at any time.
    """

    def __init__(self, config: Config, api: Api, aws: Aws | None) -> None:
        self._config = config
        self._api = api
        self._proof = Proof(aws, config.deployment) if aws else None
        self._notice = NoticeCheck(metadata_service(config.metadata_url))

    def send(self, bootstrap_token: str, runtime: str) -> Answer:
        """Send the claim, and return the answer that gives or refuses the job."""
        refusals, waiting = 0, False
        while True:
            answer = self._call(bootstrap_token, runtime)
            if answer.status == 401 and self._proof is not None and refusals < PROOF_TRIES:
                refusals += 1
                self._proof.renew()
                time.sleep(backoff_seconds(refusals + 3, jitter()))
                continue
            if answer.status != 202:
                return answer
            if not waiting:
                log("told to wait")
                waiting = True
            time.sleep(read_wait(answer.json()))
            self._notice.poll()

    def _call(self, bootstrap_token: str, runtime: str) -> Answer:
        interrupted = self._notice.seen

        def claim() -> Answer:
            if self._config.identity == "sts" and self._proof is not None:
                bound_to = self._proof.bound_to
                return self._api.claim_by_role(bound_to, runtime, interrupted=interrupted)
            return self._api.claim(bootstrap_token, runtime, interrupted=interrupted)

        return call_until_answered("claim", claim, time.sleep) or Answer(0, "")


def refusal(answer: Answer) -> str:
    """Return the API's own words for a refused claim: the console is all that is left to read."""
    body: Any = answer.json()
    message = body.get("message") if isinstance(body, dict) else None
    return message[:MOST_REFUSAL] if isinstance(message, str) else ""


class NoticeCheck:
    """Checks for the interruption notice of an instance that waits for its job."""

    def __init__(self, metadata: Metadata | None) -> None:
        self._metadata = metadata
        self._polled_at = float("-inf")
        self.seen = False

    def poll(self) -> None:
        """Ask the metadata service, unless it was asked within the last seconds."""
        due = time.monotonic() - self._polled_at >= Settings().metadata_poll_seconds
        if self._metadata is None or self.seen or not due:
            return
        self._polled_at = time.monotonic()
        with contextlib.suppress(UnreachableError):
            text = self._metadata.get(Metadata.NOTICE_PATH)
            self.seen = parse_notice(text or "", now_utc()) is not None
        if self.seen:
            log("interruption notice while waiting")


def with_attempt(config: Config, answer: object) -> Config:
    """Return the configuration with the attempt that the answer names; raises CouldNotRunError."""
    try:
        body: Any = answer
        return config._replace(
            job_id=int(body["job"]["id"]),
            attempt=int(body["attempt"]),
            instance_id=str(body["instance_id"]),
        )
    except (KeyError, TypeError, ValueError):
        raise CouldNotRunError("the claim's answer does not name its attempt") from None
