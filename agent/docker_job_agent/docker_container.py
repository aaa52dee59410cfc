"""A real container, on the machine's engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from typing import Any
from urllib.parse import quote

from .children import Child, this_file
from .container import Container
from .container_spec import container_name, container_spec, explain_gpus, labels
from .decisions import Outcome
from .engine import docker
from .engine_api import EngineAnswer, EngineApi
from .engine_events import had_oom, was_restarted
from .environment import Config, environment_for_children
from .errors import (
    MAX_ERROR_CHARACTERS,
    CouldNotRunError,
    EngineError,
    EngineLostError,
    StoppedBeforeRunningError,
)
from .image import DEFAULT_STOP_SIGNAL, read_image, stop_signal_of
from .images import Images, create_with_image, pull_with_room
from .job import Job, Settings, check_job
from .log import log
from .machine import Limits, decide_own_limits, decide_shared_limits, has_gpus, read_machine
from .network import JobNetwork
from .oom import KILLED, count_kills, note_of_end
from .pull import Pull
from .redraw import Piece
from .reporter import Reporter
from .situation import Situation

TIDY_SECONDS = 5.0  # less than the grace of an instance that is terminated meanwhile
CREATE_SECONDS = 120.0  # it may unpack layers
SLOW_SECONDS = 1.0  # an engine that begins anew, behind systemd's socket, answers no sooner
ATTACHED_AGAIN = "the output was cut off for a while, lines may be missing"
# Of `docker start --attach`, on the stderr that it passes on.
CLIENT_TROUBLE = re.compile(r'time="[^"]*" level=error msg="(error waiting for container: [^"]*)"$')
RESTARTED = "the container engine was restarted, which ended the container"


class DockerContainer(Container):
    """A real container: created through the Engine API, then run through Docker's client.

    The two are separate, so that an error of the engine differs from an exit code of the container.
    """

    def __init__(
        self, config: Config, job: Job, settings: Settings, reporter: Reporter, situation: Situation
    ) -> None:
        super().__init__(config, job, settings, reporter, situation)
        self.name = container_name(config)
        self._state: dict[str, Any] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._stop_signal = DEFAULT_STOP_SIGNAL
        self._limits = Limits()
        self._kills_before = 0  # for memory, by this machine's kernel
        self._killed = False  # by this agent
        self._stopped = False  # by this agent
        self._engine_was_away = False  # perhaps
        self._is_line_open = False  # of stderr
        self._network = JobNetwork(config, settings) if config.shared_engine else None

    # -- before it runs

    def prepare(self) -> None:
        """Pull the image; raises as `Pull.run` does."""
        check_job(self.job)
        self.reporter.report_phase("pulling")
        pull = Pull(self.job, self.settings, self.situation, self.reporter).run
        if self.config.shared_engine:
            pull_with_room(self.config.shared_engine, self.job.image, pull)
        else:
            pull()

    def tidy(self) -> None:
        """Remove images that jobs brought, if the disk of a shared engine is full."""
        if self.config.shared_engine:
            Images(self.config.shared_engine).make_room(TIDY_SECONDS)

    def _create(self) -> None:
        """Create the container, within what its machine has, as its image wants to be run."""
        try:
            with contextlib.closing(EngineApi()) as engine:
                made = self._create_with(engine)
        except EngineError as error:
            raise EngineLostError(f"the container was not created: {error}") from None
        if made.status != 201:
            message = explain_gpus(self.job, made.message)
            raise CouldNotRunError(message[-MAX_ERROR_CHARACTERS:])
        warnings = made.body.get("Warnings") if isinstance(made.body, dict) else None
        for note in (*self._limits.notes, *(warnings or ())):
            self.reporter.add_note(note)

    def _create_with(self, engine: EngineApi) -> EngineAnswer:
        machine = read_machine(engine.request("GET", "/info", seconds=CREATE_SECONDS).body)
        name = quote(self.job.image, safe="/:@")
        image = read_image(engine.request("GET", f"/images/{name}/json").body)
        asked = self.job.resources
        if self.config.owns_machine:
            self._limits = decide_own_limits(asked, machine, gpus=has_gpus())
        else:
            self._limits = decide_shared_limits(asked, machine)
        self._stop_signal = stop_signal_of(self.job, image)
        spec = container_spec(self.config, self.job, self.settings, image, self._limits)
        path = f"/containers/create?name={self.name}"
        return engine.request("POST", path, spec, CREATE_SECONDS)

    # -- while it runs

    def start(self) -> None:
        """Create and start it, and wait until it has left the engine's state `created`."""
        self._guard = self._start_guard()
        if self._network:
            self._network.create(labels(self.config))
        create_with_image(self._create, self.prepare)
        if self.situation.cause_not_to_start():  # the last check before anything runs
            raise StoppedBeforeRunningError
        self._kills_before = count_kills()
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
            asked_at = time.monotonic()
            state = self._inspect()
            if state is None or time.monotonic() - asked_at > SLOW_SECONDS:
                self._engine_was_away = True
            if state is None:
                return False
            if state.get("Running"):
                log("lost the container's output, attaching again")
                self.reporter.add_note(ATTACHED_AGAIN)
                self.child = self._client("attach", "--no-stdin", self.name)
                return False
            self._state = state
        return True

    def take_line(self, stream: str, piece: Piece) -> None:
        """Take a line; what docker's client says of a lost engine, the container did not print."""
        said = CLIENT_TROUBLE.search(piece.text) if stream == "stderr" else None
        if said is None:
            super().take_line(stream, piece)
        else:
            if said.start() or self._is_line_open:
                super().take_line(stream, piece._replace(text=piece.text[: said.start()]))
            self.reporter.add_note(said[1])
        if stream == "stderr":
            self._is_line_open = piece.continues is not None

    def has_exited(self) -> bool:
        """Return whether it runs no more, even if docker's client still has output of it."""
        state = self._state or self._inspect()
        return state is not None and state.get("Status") in ("exited", "dead")

    def stop(self) -> None:
        """Send its stop signal to the container's first process; an init forwards it."""
        self._stopped = True
        if not self._send(self._stop_signal):  # an image may name one that the engine lacks
            self._send(DEFAULT_STOP_SIGNAL)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._killed = True
        self._send("SIGKILL")

    def _send(self, name: str) -> bool:
        done = docker("kill", f"--signal={name}", "--", self.name)
        if done.code != 0:
            log("docker kill failed", signal=name, error=done.error)
        return done.code == 0

    # -- after it ran

    def outcome(self) -> Outcome:
        """Return the exit code that the engine has recorded, with its explanation."""
        state = self._state
        if state is None:
            return Outcome(None, "the agent lost sight of the container", stopped=False)
        if state.get("Status") == "created":
            error = str(state.get("Error") or "docker could not start the container")
            lost = self._engine_was_away and not state.get("Error")
            return Outcome(None, explain_gpus(self.job, error), again=lost)
        if state.get("Status") == "gone":
            return Outcome(None, "the container was removed while it ran")
        exit_code = int(state.get("ExitCode", -1))
        if self._was_ended_by_the_engine(exit_code):
            self.reporter.add_note(RESTARTED)
            return Outcome(None, RESTARTED, again=True)
        note = self._note_about_memory(exit_code, state)
        if note:
            self.reporter.add_note(note)
        return Outcome(exit_code, note)

    def _was_ended_by_the_engine(self, exit_code: int) -> bool:
        if self._stopped or self._killed:
            return False
        told = self.child.exit_code if self.child else exit_code
        return (self._engine_was_away or told != exit_code) and was_restarted(self.name)

    def _note_about_memory(self, exit_code: int, state: dict[str, Any]) -> str:
        in_container = bool(state.get("OOMKilled"))
        in_machine = 0
        if exit_code == KILLED and not in_container and not self._killed:
            in_container = had_oom(self.name, state)
            in_machine = max(0, count_kills() - self._kills_before)
        limit = self._limits.memory_bytes
        ended_by = 0 if self._killed else exit_code  # our own SIGKILL was not the kernel's
        return note_of_end(ended_by, limit, in_container=in_container, in_machine=in_machine)

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
