"""The claim: from the start of the agent to the API's answer with the job."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from .api import Api, call_until_answered, read_attempt_over
from .aws import Aws
from .decisions import INTERRUPTED
from .environment import Config
from .errors import CouldNotRunError, UnreachableError
from .http_client import Answer
from .identity import PROOF_TRIES, Proof
from .job import Settings, read_free_seconds, read_wait
from .log import log, now_utc
from .metadata import (
    Metadata,
    Notice,
    Reading,
    metadata_service,
    parse_notice,
    seconds_until_stop,
)
from .retries import backoff_seconds, jitter

MOST_REFUSAL = 300
NOTICE_TRIES = 4
"""With the usual pause between them 15 seconds: so much later may the instance see a notice."""


class Claim:
    """The claim of an attempt, repeated until the API gives or refuses the job.

    SIGTERM and the maximum lifetime end it, and nothing else: an instance that waits may be needed
    at any time.
    """

    def __init__(self, config: Config, api: Api, aws: Aws | None) -> None:
        self._config = config
        self._api = api
        self._proof = Proof(aws, config.deployment) if aws else None
        self.check = NoticeCheck(metadata_service(config.metadata_url))
        self.free_until: float | None = None  # monotonic: an interruption until then costs nothing

    def send(self, bootstrap_token: str, runtime: str) -> Answer:
        """Send the claim, and return the answer that gives or refuses the job."""
        refusals, waiting = 0, False
        while True:
            self.check.poll()
            answer = self._call(bootstrap_token, runtime)
            free_until = read_free_until(answer.json(), time.monotonic())
            if free_until is not None or answer.status in (200, 202):
                self.free_until = free_until
            if answer.status == 401 and self._proof is not None and refusals < PROOF_TRIES:
                refusals += 1
                self._proof.renew()
                time.sleep(backoff_seconds(refusals + 3, jitter()))
                continue
            if answer.status == 409 and self.free_until is not None:
                self._await_notice(answer)
            if answer.status != 202:
                return answer
            if not waiting:
                log("told to wait")
                waiting = True
            time.sleep(read_wait(answer.json()))

    def _await_notice(self, answer: Answer) -> None:
        """Read the notice for which the API has ended the attempt: it may have known it sooner."""
        if read_attempt_over(answer.json())[0] != INTERRUPTED:
            return
        for tries in range(1, NOTICE_TRIES + 1):
            self.check.poll(at_once=True)
            if self.check.seen or not self.check.can_ask or tries == NOTICE_TRIES:
                return
            time.sleep(Settings().metadata_poll_seconds)

    def _call(self, bootstrap_token: str, runtime: str) -> Answer:
        interrupted = self.check.seen

        def claim() -> Answer:
            if self._config.identity == "sts" and self._proof is not None:
                proof = self._proof
                return self._api.claim_by_role(
                    proof.bound_to,
                    runtime,
                    instance_id=proof.instance_id(),
                    interrupted=interrupted,
                )
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
        self.notice: Notice | None = None
        self.taken_at: float | None = None  # monotonic, when EC2 takes the instance

    @property
    def seen(self) -> bool:
        """True once there is a notice."""
        return self.notice is not None

    @property
    def can_ask(self) -> bool:
        """True if there is a metadata service."""
        return self._metadata is not None

    def poll(self, *, at_once: bool = False) -> None:
        """Ask the metadata service, *at_once* even if it was asked just before."""
        due = at_once or time.monotonic() - self._polled_at >= Settings().metadata_poll_seconds
        if self._metadata is None or self.seen or not due:
            return
        self._polled_at = time.monotonic()
        with contextlib.suppress(UnreachableError):
            self._read(self._metadata.read(Metadata.NOTICE_PATH))

    def _read(self, reading: Reading | None) -> None:
        if reading is None:
            return
        now = now_utc()
        self.notice = parse_notice(reading.text, reading.served_at or now)
        if self.notice is not None:
            left = seconds_until_stop(self.notice, 0.0, now, reading.served_at)
            self.taken_at = time.monotonic() + left
            log("interruption notice while waiting", stop_in_seconds=left)


def read_free_until(answer: object, now: float) -> float | None:
    """Return until when an interruption by EC2 costs nothing; None: it costs as any other end."""
    seconds = read_free_seconds(answer)
    return now + seconds if seconds > 0 else None


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
