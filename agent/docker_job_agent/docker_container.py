"""A real container, on the machine's engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import Any

from .children import Child, this_file
from .container import Container
from .container_spec import container_name, container_spec, labels
from .decisions import Outcome
from .engine import docker
from .engine_api import EngineApi
from .environment import Config, environment_for_children
from .errors import (
    MAX_ERROR_CHARACTERS,
    CouldNotRunError,
    EngineError,
    StoppedBeforeRunningError,
)
from .images import Images, create_with_image, pull_with_room
from .instance_dir import InstanceDirectory
from .job import Job, Settings, check_job
from .log import log
from .network import JobNetwork
from .pull import Pull
from .reporter import Reporter
from .situation import Situation

TIDY_SECONDS = 5.0  # less than the grace of an instance that is terminated meanwhile
CREATE_SECONDS = 120.0  # it may unpack layers


class DockerContainer(Container):
    """A real container: created through the Engine API, then run through Docker's client.

    The two are separate, so that an error of the engine differs from an exit code of the container.
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
        self._login_directory = os.path.join(home.path, "docker-config")
        self._state: dict[str, Any] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._network = JobNetwork(config, settings) if config.shared_engine else None

    # -- before it runs

    def prepare(self) -> None:
        """Pull the image; raises as `Pull.run` does."""
        check_job(self.job)
        self.reporter.report_phase("pulling")
        pull = Pull(self.job, self.settings, self.situation, self._login_directory).run
        if self.config.shared_engine:
            pull_with_room(self.config.shared_engine, self.job.image, pull)
        else:
            pull()

    def tidy(self) -> None:
        """Remove images that jobs brought, if the disk of a shared engine is full."""
        if self.config.shared_engine:
            Images(self.config.shared_engine).make_room(TIDY_SECONDS)

    def _create(self) -> None:
        """Create the container."""
        path = f"/containers/create?name={self.name}"
        spec = container_spec(self.config, self.job)
        try:
            with contextlib.closing(EngineApi()) as engine:
                made = engine.request("POST", path, spec, CREATE_SECONDS)
        except EngineError as error:
            raise CouldNotRunError(str(error)) from None
        if made.status != 201:
            raise CouldNotRunError(made.message[-MAX_ERROR_CHARACTERS:])

    # -- while it runs

    def start(self) -> None:
        """Create and start it, and wait until it has left the engine's state `created`."""
        self._guard = self._start_guard()
        if self._network:
            self._network.create(labels(self.config))
        create_with_image(self._create, self.prepare)
        if self.situation.cause_not_to_start():  # the last check before anything runs
            raise StoppedBeforeRunningError
        self.child = self._client("start", "--attach", self.name)
        started = self.child
        while not started.exited and self._is_only_created():
            if self.situation.over or self.situation.terminated:
                return  # if the engine hangs, the supervision stops it
            self.situation.wait_until(lambda: started.exited, 0.02)

    def _is_only_created(self) -> bool:
        state = self._inspect()
        return state is None or state.get("Status") == "created"

    def has_ended(self) -> bool:
        """Return whether the engine reports that it has ended.

        The client's exit alone is no proof: an engine that restarts disconnects the client while
        the container runs on. The agent then attaches again.
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
        """Send a signal to the container's init, which forwards it."""
        done = docker("kill", "--signal", signal.Signals(number).name, "--", self.name)
        if done.code != 0:
            log("docker kill failed", error=done.error)

    # -- after it ran

    def outcome(self) -> Outcome:
        """Return the exit code that the engine has recorded, with its explanation."""
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
        """Remove the container in any state, and end the guard; return False if that failed."""
        done = docker("rm", "--force", "--volumes", "--", self.name)
        removed = done.code == 0 or "No such container" in done.error
        log("container removed" if removed else "container not removed", error=done.error)
        if removed and self._network:
            self._network.remove()
        if removed and self._guard and self._guard.stdin:
            with contextlib.suppress(OSError, ValueError):
                self._guard.stdin.write(b"done")
                self._guard.stdin.close()
        return removed

    def _client(self, *arguments: str) -> Child:
        environment = environment_for_children(os.environ)
        return self._spawn(["docker", *arguments], environment, subprocess.DEVNULL)

    def _inspect(self) -> dict[str, Any] | None:
        """Return the engine's state of the container, None if it does not answer."""
        seen = docker(
            "inspect", "--type", "container", "--format", "{{json .State}}", "--", self.name
        )
        if seen.code == 0:
            with contextlib.suppress(ValueError):
                return dict(json.loads(seen.out))
        return {"Status": "gone"} if "No such container" in seen.error else None

    def _start_guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # this file
            this_file("--guard", self.name, *(["network"] if self._network else [])),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment_for_children(os.environ),
            start_new_session=True,
        )
