"""The pull of a job's image, with the registry's login."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable

from .children import Child
from .engine import docker
from .environment import environment_for_children
from .errors import PullFailedError, StoppedBeforeRunningError
from .job import Job, Settings
from .job_secrets import registry_of
from .log import log
from .redraw import Piece
from .situation import Situation

PULL_TRIES = 3
LOGIN_SECONDS = 60.0

# A registry's errors for which another try cannot help.
PULL_REFUSALS = ("not found", "manifest unknown", "denied", "unauthorized", "invalid reference")


def is_refusal(error: str) -> bool:
    """Return whether a registry's error means that another try cannot help."""
    return any(refusal in error.lower() for refusal in PULL_REFUSALS)


class Pull:
    """The pull of a job's image; `login_directory` holds the registry's login meanwhile."""

    def __init__(
        self, job: Job, settings: Settings, situation: Situation, login_directory: str
    ) -> None:
        self._job = job
        self._settings = settings
        self._situation = situation
        self._login_directory = login_directory

    def run(self) -> None:
        """Pull the image; if that fails, accept one of that name on the machine.

        Raises PullFailedError, or StoppedBeforeRunningError for a cause not to start.
        """
        try:
            self._pull(self._log_in())
        finally:
            shutil.rmtree(self._login_directory, ignore_errors=True)

    def _pull(self, environment: dict[str, str]) -> None:
        refused = False
        for failures in range(1, PULL_TRIES + 1):
            error = self._pull_once(environment)
            if not error:
                return
            log("pull failed", tries=failures)
            if docker("image", "inspect", "--", self._job.image).code == 0:
                log("the local image is used")
                return
            refused = is_refusal(error)
            if refused:
                break
            if failures < PULL_TRIES:
                self._wait_unless_stopped(lambda: False, float(failures))
        raise PullFailedError(error, permanent=refused)

    def _log_in(self) -> dict[str, str]:
        """Log in if the job needs it; return the environment for the pull.

        The login is in a directory of its own until the image is pulled: the machine's own logins
        are not touched, and the password is never an argument.
        """
        environment = environment_for_children(os.environ)
        login = self._job.login
        if login is None:
            return environment
        os.makedirs(self._login_directory, mode=0o700, exist_ok=True)
        environment["DOCKER_CONFIG"] = self._login_directory
        registry = registry_of(self._job.image)
        done = docker(
            "login",
            f"--username={login.username}",
            "--password-stdin",
            *([registry] if registry else []),
            seconds=LOGIN_SECONDS,
            stdin=login.password.encode("utf-8", "replace"),
            environment=environment,
        )
        if done.code != 0:
            error = done.error.replace(login.password, "…")
            raise PullFailedError(
                f"docker login at {registry or 'Docker Hub'} failed: {error}",
                permanent=is_refusal(error),
            )
        return environment

    def _pull_once(self, environment: dict[str, str]) -> str:
        """Pull; return docker's error, empty if there is none."""
        errors: deque[str] = deque(maxlen=20)

        def keep_errors(stream: str, piece: Piece) -> None:
            if stream == "stderr":
                errors.append(piece.text)

        client = Child(
            ["docker", "pull", "--", self._job.image],
            environment,
            keep_errors,
            self._situation.wake,
        )
        try:
            overdue = self._await_pull(client)
        finally:
            client.send(signal.SIGKILL)  # the engine drops the pull of a client that has ended
        if overdue:
            return overdue
        if client.exit_code == 0:
            return ""
        return "\n".join(errors).strip() or f"docker pull exited with {client.exit_code}"

    def _await_pull(self, client: Child) -> str:
        """Wait for the pull; return which of its limits it exceeded, empty if none."""
        deadline = time.monotonic() + self._settings.pull_timeout_seconds
        silence = self._settings.pull_silence_seconds
        while True:
            now = time.monotonic()
            silent_at = client.last_output_at + silence
            if self._wait_unless_stopped(lambda: client.exited, min(deadline, silent_at) - now):
                return ""
            if time.monotonic() >= deadline:
                return f"the pull took longer than {self._settings.pull_timeout_seconds:g} seconds"
            if time.monotonic() >= client.last_output_at + silence:
                return f"the pull made no progress for {silence:g} seconds"

    def _wait_unless_stopped(self, done: Callable[[], bool], seconds: float) -> bool:
        situation = self._situation
        situation.wait_until(lambda: done() or situation.cause_not_to_start() is not None, seconds)
        if situation.cause_not_to_start():
            raise StoppedBeforeRunningError
        return done()
