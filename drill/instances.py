"""The engine's own reports: each instance that started, ended, and ran a job's container.

The services do not know of this: it is the truth that their answers are compared with. The engine's
events name each instance with its job and attempt, and the agent's own log, read when the instance
has ended and before its container is removed, shows whether the job's container started there.
"""

import json
import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from drill.docker import CommandFailed, docker

LABEL = "docker-job."
RUNS = "container runs"
"""The agent's log line about the start of the job's container."""

KEPT_CHARACTERS = 20_000


class WatchEnded(Exception):
    """The engine's events ended: what happened since is unknown."""


@dataclass
class Trace:
    """One instance."""

    container: str
    job_id: int
    attempt: int
    started: int = 0
    ended: bool = False
    runs: tuple[float, ...] = ()
    """The Unix times of each start of the job's container."""
    log: str = ""
    """The end of the agent's own log."""
    unread: bool = False
    """Its log could not be read."""

    @property
    def running(self) -> bool:
        """Return whether it has started and not ended."""
        return self.started > 0 and not self.ended


@dataclass
class Watch:
    """Follows the engine's events about one deployment, from `start` to `close`."""

    deployment: str
    _traces: dict[str, Trace] = field(default_factory=dict)
    _process: "subprocess.Popen[str] | None" = None
    _thread: threading.Thread | None = None
    _closing: bool = False

    def start(self) -> None:
        """Begin; events from now on are seen."""
        self._process = subprocess.Popen(
            [
                *("docker", "events", "--since", f"{time.time():.6f}", "--filter"),
                *("type=container", "--filter", f"label={LABEL}deployment={self.deployment}"),
                *("--format", "{{json .}}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._closing = True
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def running(self, job_ids: Collection[int]) -> int:
        """Count the jobs of these that have a running instance. Raises `WatchEnded`."""
        return len({each.job_id for each in self._of(job_ids) if each.running})

    def jobs_by_container(self) -> dict[str, int]:
        """Return the job of each instance's container. Raises `WatchEnded`."""
        self._check()
        return {each.container: each.job_id for each in tuple(self._traces.values())}

    def traces(self, job_ids: Collection[int]) -> list[Trace]:
        """Return each instance of these jobs, with the log also of those that still run.

        Raises `WatchEnded`.
        """
        found = self._of(job_ids)
        for each in found:
            if each.running:
                _read_log(each)
        return found

    def _of(self, job_ids: Collection[int]) -> list[Trace]:
        self._check()
        return [each for each in tuple(self._traces.values()) if each.job_id in job_ids]

    def _check(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            raise WatchEnded("`docker events` has ended: starts of containers may be missing")

    def _follow(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            self._note(json.loads(line))

    def _note(self, event: dict[str, object]) -> None:
        actor = event.get("Actor")
        if not isinstance(actor, dict):
            return
        labels = actor["Attributes"]
        if labels.get(f"{LABEL}role") != "instance":
            return
        container = str(actor["ID"])
        trace = self._traces.get(container)
        if trace is None:
            job, attempt = int(labels[f"{LABEL}job"]), int(labels[f"{LABEL}attempt"])
            trace = self._traces[container] = Trace(container, job, attempt)
        action = event.get("Action")
        if action == "start":
            trace.started += 1
            trace.ended = False
        elif action == "die":
            _read_log(trace)
            trace.ended = True
        elif action == "destroy":
            trace.ended = True


def _read_log(trace: Trace) -> None:
    try:
        text = docker("logs", trace.container, stderr=True)
    except CommandFailed:
        trace.unread = True
        return
    trace.unread = False
    trace.runs = read_runs(text)
    trace.log = text[-KEPT_CHARACTERS:]


def read_runs(log: str) -> tuple[float, ...]:
    """Return when the job's container started, from the agent's log."""
    runs = []
    for line in log.splitlines():
        if RUNS not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("event") == RUNS:
            runs.append(datetime.fromisoformat(entry["at"]).timestamp())
    return tuple(runs)
