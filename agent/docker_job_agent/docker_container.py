"""A real container."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .children import Child, this_file
from .container import Container
from .decisions import Outcome
from .engine import container_name, container_options, docker, render_env_file
from .environment import Config, environment_for_children
from .errors import CouldNotRunError, PullFailedError, StoppedBeforeRunningError
from .instance_dir import InstanceDirectory, write_private_file
from .job import Job, Settings, check_job
from .job_secrets import registry_of
from .log import log
from .reporter import Reporter
from .situation import Situation

CREATE_SECONDS = 120.0  # docker create may unpack layers
PULL_TRIES = 3
LOGIN_SECONDS = 60.0

# What a registry says when asking again cannot help.
PULL_REFUSALS = ("not found", "manifest unknown", "denied", "unauthorized", "invalid reference")


def is_refusal(error: str) -> bool:
    """Whether a registry's error means that asking again cannot help."""
    return any(word in error.lower() for word in PULL_REFUSALS)


class DockerContainer(Container):
    """A real container, through the docker client.

    `create` and `start` are separate so that the env file lives only as long as `create` runs, and
    an error of docker's own is told from one of the container's.
    """

    def __init__(
        self,
        config: Config,
        job: Job,
        settings: Settings,
        reporter: Reporter,
        situation: Situation,
        home: InstanceDirectory,
    ) -> None:
        super().__init__(config, job, settings, reporter, situation)
        self.name = container_name(config)
        self._env_file = os.path.join(home.path, "env")
        self._logins = os.path.join(home.path, "docker-config")
        self._state: dict[str, Any] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # -- before it runs

    def prepare(self) -> None:
        """Pull the image; if that fails and the machine has one of that name, use it."""
        check_job(self.job)
        self.reporter.report_phase("pulling")
        try:
            self._pull()
        finally:
            self._forget_login()

    def _pull(self) -> None:
        refused = False
        environment = self._log_in()
        for failures in range(1, PULL_TRIES + 1):
            error = self._pull_once(environment)
            if not error:
                return
            log("pull failed", tries=failures)
            if docker("image", "inspect", "--", self.job.image).code == 0:
                log("the local image is used")
                return
            refused = is_refusal(error)
            if refused:
                break
            if failures < PULL_TRIES:
                self._wait_unless_stopped(lambda: False, float(failures))
        raise PullFailedError(error, permanent=refused)

    def _log_in(self) -> dict[str, str]:
        """Log in if the job says so; returns the environment that the pull needs.

        The login lives in a directory of its own, until the image is here: neither the machine's
        own logins nor its disk are touched, and the password never is an argument.
        """
        environment = environment_for_children(os.environ)
        login = self.job.login
        if login is None:
            return environment
        os.makedirs(self._logins, mode=0o700, exist_ok=True)
        environment["DOCKER_CONFIG"] = self._logins
        registry = registry_of(self.job.image)
        done = docker(
            "login",
            f"--username={login.username}",
            "--password-stdin",
            *([registry] if registry else []),
            seconds=LOGIN_SECONDS,
            said=login.password.encode("utf-8", "replace"),
            environment=environment,
        )
        if done.code != 0:
            error = done.error.replace(login.password, "…")
            raise PullFailedError(
                f"docker login at {registry or 'Docker Hub'} failed: {error}",
                permanent=is_refusal(error),
            )
        return environment

    def _forget_login(self) -> None:
        shutil.rmtree(self._logins, ignore_errors=True)

    def _pull_once(self, environment: dict[str, str]) -> str:
        """Pull; returns docker's error, empty if there is none."""
        errors: deque[str] = deque(maxlen=20)

        def keep_errors(stream: str, text: str) -> None:
            if stream == "stderr":
                errors.append(text)

        client = Child(
            ["docker", "pull", "--", self.job.image],
            environment,
            keep_errors,
            self.situation.wake,
        )
        try:
            overdue = self._await_pull(client)
        finally:
            client.send(signal.SIGKILL)  # if it still runs: the engine drops an unwatched pull
        if overdue:
            return overdue
        if client.exit_code == 0:
            return ""
        return "\n".join(errors).strip() or f"docker pull exited with {client.exit_code}"

    def _await_pull(self, client: Child) -> str:
        """Wait for the pull within its limits; returns which limit it passed, if it did."""
        deadline = time.monotonic() + self.settings.pull_timeout_seconds
        silence = self.settings.pull_silence_seconds
        while True:
            now = time.monotonic()
            silent_at = client.last_output_at + silence
            if self._wait_unless_stopped(lambda: client.exited, min(deadline, silent_at) - now):
                return ""
            if time.monotonic() >= deadline:
                return f"the pull took longer than {self.settings.pull_timeout_seconds:g} seconds"
            if time.monotonic() >= client.last_output_at + silence:
                return f"the pull made no progress for {silence:g} seconds"

    def _wait_unless_stopped(self, done: Callable[[], bool], seconds: float) -> bool:
        situation = self.situation
        situation.wait_until(lambda: done() or situation.cause_not_to_start() is not None, seconds)
        if situation.cause_not_to_start():
            raise StoppedBeforeRunningError
        return done()

    def _create(self) -> None:
        """Make the container. Its env file, readable by us alone, is gone when this returns."""
        content = render_env_file(self.job.env)
        try:
            write_private_file(self._env_file, content)
            options = [
                *container_options(self.config, self.job.gpus),
                "--env-file",
                self._env_file,
                "--pull",
                "never",
            ]
            made = docker(
                "create", *options, "--", self.job.image, *self.job.command, seconds=CREATE_SECONDS
            )
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._env_file)
        if made.code != 0:
            raise CouldNotRunError(made.error or "docker create failed")

    # -- while it runs

    def start(self) -> None:
        """Create it, start it, and wait until the engine says that it left the state `created`."""
        self._guard = self._start_guard()
        self._create()
        if self.situation.cause_not_to_start():  # the last moment at which nothing has run
            raise StoppedBeforeRunningError
        self.child = self._client("start", "--attach", self.name)
        started = self.child
        while not started.exited and self._is_only_created():
            if self.situation.over or self.situation.terminated:
                return  # the engine may hang in between: whoever supervises stops it
            self.situation.wait_until(lambda: started.exited, 0.02)

    def _is_only_created(self) -> bool:
        state = self._inspect()
        return state is None or state.get("Status") == "created"

    def has_ended(self) -> bool:
        """Whether the engine says that it ended.

        The client's exit alone does not say so: a restarted engine cuts it off while the container
        runs on, and then we attach again.
        """
        if self.child is None:
            return True
        if not self.child.exited:
            return False
        if self._state is None:
            state = self._inspect()
            if state is None:
                return False
            if state.get("Running"):
                log("lost the container's output, attaching again")
                self.child = self._client("attach", "--no-stdin", self.name)
                return False
            self._state = state
        return True

    def send(self, number: int) -> None:
        """Signal the container's process (the init hands it on)."""
        done = docker("kill", "--signal", signal.Signals(number).name, "--", self.name)
        if done.code != 0:
            log("docker kill failed", error=done.error)

    # -- after it ran

    def outcome(self) -> Outcome:
        """The exit code that the engine recorded, and what it has to say about it."""
        state = self._state
        if state is None:
            return Outcome(None, "the agent lost sight of the container", stopped=False)
        if state.get("Status") == "created":
            return Outcome(None, str(state.get("Error") or "docker could not start the container"))
        if state.get("Status") == "gone":
            return Outcome(None, "the container was removed while it ran")
        note = "out of memory: the kernel killed the container" if state.get("OOMKilled") else ""
        return Outcome(int(state.get("ExitCode", -1)), note)

    def destroy(self) -> bool:
        """Remove the container, however it stands, and let the guard go."""
        done = docker("rm", "--force", "--volumes", "--", self.name)
        gone = done.code == 0 or "No such container" in done.error
        log("container removed" if gone else "container not removed", error=done.error)
        if gone and self._guard and self._guard.stdin:
            with contextlib.suppress(OSError, ValueError):
                self._guard.stdin.write(b"done")
                self._guard.stdin.close()
        return gone

    def _client(self, *arguments: str) -> Child:
        environment = environment_for_children(os.environ)
        return self._spawn(["docker", *arguments], environment, subprocess.DEVNULL)

    def _inspect(self) -> dict[str, Any] | None:
        """The engine's word on the container; None if it does not answer."""
        seen = docker(
            "inspect", "--type", "container", "--format", "{{json .State}}", "--", self.name
        )
        if seen.code == 0:
            with contextlib.suppress(ValueError):
                return dict(json.loads(seen.out))
        return {"Status": "gone"} if "No such container" in seen.error else None

    def _start_guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # our own file
            this_file("--guard", self.name, self._env_file),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment_for_children(os.environ),
            start_new_session=True,
        )
