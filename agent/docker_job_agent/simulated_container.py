"""The simulated container: a child process, where there is no container engine."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess

from .children import this_file
from .container import Container
from .container_spec import would_run
from .decisions import Outcome
from .job import check_job


class SimulatedContainer(Container):
    """A child process, under the same supervision, that prints what would have run."""

    def start(self) -> None:
        """Start the child, and pass it the job's environment through a pipe.

        So no other process can read it, and no name in it (LD_PRELOAD …) affects the child.
        """
        check_job(self.job)
        plan = {"would_run": would_run(self.config, self.job), "env": self.job.env}
        self.child = self._spawn(this_file("--simulate"), {}, subprocess.PIPE)
        if self.child.stdin:
            with contextlib.suppress(OSError):  # it has ended already: its exit code says so
                self.child.stdin.write(json.dumps(plan).encode() + b"\n")
                self.child.stdin.flush()

    def send(self, number: int) -> None:
        """Signal the child."""
        if self.child:
            self.child.send(number)

    def outcome(self) -> Outcome:
        """Return its exit code."""
        if self.child is None or not self.child.exited:
            return Outcome(None, "the simulated container could not be stopped", stopped=False)
        return Outcome(self.child.exit_code)

    def destroy(self) -> bool:
        """Kill the child."""
        self.send(signal.SIGKILL)
        return True
