"""The pull of a job's image: its tries, its limits, and the image that the machine may have itself.

Within an attempt a failure that may pass is tried again for some minutes: that is cheaper than
another instance, and a registry's restart takes no longer. Then the instance, which costs money, is
given back, and the job waits without one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from urllib.parse import quote

from .engine_api import EngineApi
from .engine_pull import EnginePull
from .errors import EngineError, PullFailedError, StoppedBeforeRunningError
from .job import Job, Settings
from .job_secrets import registry_of
from .log import log
from .pull_failures import DISK, LIMIT, LOGIN, NETWORK, TIME, Failure, read_failure
from .registry import auth_headers
from .registry_addresses import AddressLookup, refusal_of
from .reporter import Reporter
from .retries import jitter
from .situation import Situation

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
LIMIT_PAUSE_SECONDS = 60.0  # a registry that limits the rate counts each try
LONGEST_LIMIT_PAUSE_SECONDS = 240.0
NOTE_CHARACTERS = 1000
SHOWN_CHARACTERS = 170  # of an error in a phase detail, which has 200
LOOK_SECONDS = 1.0


class Pull:
    """The pull of a job's image."""

    def __init__(
        self, job: Job, settings: Settings, situation: Situation, reporter: Reporter
    ) -> None:
        self._job = job
        self._settings = settings
        self._situation = situation
        self._reporter = reporter
        self._login = job.login
        self._detail = ""

    def run(self) -> None:
        """Pull the image; if that fails, use the machine's own if the settings allow it.

        Raises PullFailedError, or StoppedBeforeRunningError for a cause not to start.
        """
        self._reporter.show_detail(lambda: self._detail)
        deadline = time.monotonic() + self._settings.pull_timeout_seconds
        give_up_at = deadline
        tries = 0
        while True:
            failure = self._try(deadline)
            if failure is None:
                return
            tries += 1
            log("pull failed", tries=tries, origin=failure.origin, permanent=failure.permanent)
            if self._settings.local_images and self._is_local():
                log("the image of this machine is used")  # not in the job's log: nothing is wrong
                return
            now = time.monotonic()
            if tries == 1:
                give_up_at = min(deadline, now + self._settings.pull_retry_seconds)
            pause = pause_seconds(failure, tries, jitter())
            if failure.permanent or failure.origin == DISK or now + pause > give_up_at:
                raise PullFailedError(self._explained(failure), permanent=failure.permanent)
            self._announce(failure, pause)
            self._wait_unless_stopped(lambda: False, pause)

    def _try(self, deadline: float) -> Failure | None:
        """Pull once; return why it failed, None if it did not."""
        refused = self._refusal(deadline)
        if refused is not None:
            return refused
        try:
            if self._login is None and self._job.fetch_login is not None:
                self._login = self._job.fetch_login()
        except PullFailedError as error:
            return Failure(str(error), LOGIN if error.permanent else NETWORK, error.permanent)
        image = self._job.image
        headers = auth_headers(image, self._login, os.environ)
        try:
            with contextlib.closing(EnginePull(image, headers, self._situation.wake)) as pull:
                self._reporter.show_detail(pull.progress.detail)
                return self._await(pull, deadline)
        except EngineError as trouble:
            return read_failure(str(trouble), image)

    def _refusal(self, deadline: float) -> Failure | None:
        """Return why the image's registry may not be asked, None if it may.

        Looked up again before each try: names change. The engine looks them up itself afterwards.
        """
        host = registry_of(self._job.image)
        if host is None or not self._settings.registries_refused:
            return None
        lookup = AddressLookup(host, self._situation.wake)
        seconds = max(0.0, deadline - time.monotonic())
        self._wait_unless_stopped(lambda: lookup.ended, seconds)
        refused, allowed = self._settings.registries_refused, self._settings.registries_allowed
        return refusal_of(host, lookup.addresses, refused, allowed)

    def _await(self, pull: EnginePull, deadline: float) -> Failure | None:
        """Wait for the pull; return why it failed, or which of its limits it exceeded."""
        silence, longest = self._settings.pull_silence_seconds, self._settings.pull_timeout_seconds
        while not pull.ended:
            now = time.monotonic()
            if now >= deadline:
                return Failure(f"the pull took longer than {longest:g} seconds", TIME)
            silent_at = pull.alive_at + silence if pull.progress.waits_for_bytes() else deadline
            if now >= silent_at:
                return Failure(f"the pull made no progress for {silence:g} seconds", TIME)
            # Looked at again after a second: by then it may wait for something else.
            seconds = min(deadline - now, silent_at - now, LOOK_SECONDS)
            self._wait_unless_stopped(lambda: pull.ended, seconds)
        return read_failure(pull.error, self._job.image) if pull.error else None

    def _is_local(self) -> bool:
        """Return whether the machine has the image itself."""
        path = f"/images/{quote(self._job.image, safe='/:@')}/json"
        try:
            with contextlib.closing(EngineApi()) as engine:
                return engine.request("GET", path).status == 200
        except EngineError:
            return False

    def _explained(self, failure: Failure) -> str:
        text = failure.message
        if failure.origin == LOGIN and self._login is not None:
            refused = "the login of this job" if self._job.login else "the login of ECR"
            registry = registry_of(self._job.image) or "Docker Hub"
            text = f"{registry} refuses {refused}: {failure.reason or 'no reason is given'}"
        if not self._settings.local_images and self._is_local():
            text += " (this machine has such an image; DOCKER_JOB_LOCAL_IMAGES is no)"
        return text

    def _announce(self, failure: Failure, pause: float) -> None:
        """Show users why the image is not there yet, and when it is tried again."""
        text, again = " ".join(failure.text.split()), f"trying again in {pause:.0f} s"
        self._note(f"{text}; {again}")
        if len(text) > SHOWN_CHARACTERS:  # AWS gives a reason of any length
            text = f"{text[: SHOWN_CHARACTERS - 1]}…"
        self._detail = f"{text}; {again}"
        self._reporter.show_detail(lambda: self._detail)

    def _note(self, text: str) -> None:
        self._reporter.add_note(" ".join(text.split())[:NOTE_CHARACTERS])

    def _wait_unless_stopped(self, done: Callable[[], bool], seconds: float) -> None:
        situation = self._situation
        situation.wait_until(lambda: done() or situation.cause_not_to_start() is not None, seconds)
        if situation.cause_not_to_start():
            raise StoppedBeforeRunningError


def pause_seconds(failure: Failure, tries: int, chance: float) -> float:
    """Return the pause after so many failed tries; `chance` is in [0, 1)."""
    first, longest = FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
    if failure.origin == LIMIT:
        first, longest = LIMIT_PAUSE_SECONDS, LONGEST_LIMIT_PAUSE_SECONDS
    return float(min(longest, first * 2 ** min(tries - 1, 30)) * (0.5 + chance / 2))
