"""The simulated container: a child process, where there is no container engine."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess

from .children import this_file
from .container import Container
from .container_spec import PLAIN_IMAGE, would_run
from .decisions import Outcome
from .image import stop_signal_of
from .job import check_job
from .signals import number_of


class SimulatedContainer(Container):
    """A child process, under the same supervision, that prints what would have run."""

    def start(self) -> None:
        """Start the child, and pass it the job's environment through a pipe.

        So no other process can read it, and no name in it (LD_PRELOAD …) affects the child.
        """
        check_job(self.job)
        plan = {
            "would_run": would_run(self.config, self.job),
            "env": self.job.env,
            "stop_signal": self._stop_number,
        }
        self.child = self._spawn(this_file("--simulate"), {}, subprocess.PIPE)
        if self.child.stdin:
            with contextlib.suppress(OSError):  # it has ended already: its exit code says so
                self.child.stdin.write(json.dumps(plan).encode() + b"\n")
                self.child.stdin.flush()

    def stop(self) -> None:
        """Signal the child."""
        if self.child:
            self.child.send(self._stop_number)

    def kill(self) -> None:
        """Kill the child."""
        if self.child:
            self.child.send(signal.SIGKILL)

    @property
    def _stop_number(self) -> int:
        return number_of(stop_signal_of(self.job, PLAIN_IMAGE))

    def outcome(self) -> Outcome:
        """Return its exit code."""
        if self.child is None or not self.child.exited:
            return Outcome(None, "the simulated container could not be stopped", stopped=False)
        return Outcome(self.child.exit_code)

    def destroy(self) -> bool:
        """Kill the child."""
        self.kill()
        return True
