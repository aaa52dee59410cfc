"""The container of a job, whatever runs it."""

from __future__ import annotations

from .children import Child
from .decisions import Outcome
from .environment import Config
from .job import Job, Settings
from .oom import CHILD_SCORE, set_score
from .redraw import Piece
from .reporter import Reporter
from .situation import Situation


class Container:
    """The container of a job: a real one or, in `SimulatedContainer`, a child process."""

    def __init__(
        self, config: Config, job: Job, settings: Settings, reporter: Reporter, situation: Situation
    ) -> None:
        self.config = config
        self.job = job
        self.settings = settings
        self.reporter = reporter
        self.situation = situation
        self.child: Child | None = None

    def prepare(self) -> None:
        """Prepare the start; raises CouldNotRunError or StoppedBeforeRunningError."""

    def start(self) -> None:
        """Start the container and return when it runs (or already ended)."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Return whether the container is known to have ended."""
        return self.child is None or self.child.exited

    def has_exited(self) -> bool:
        """Return whether it runs no more, even if some of its output is not read yet."""
        return self.has_ended()

    def stop(self) -> None:
        """Send the container the signal that asks it to stop."""
        raise NotImplementedError

    def kill(self) -> None:
        """Send it SIGKILL."""
        raise NotImplementedError

    def outcome(self) -> Outcome:
        """Return how it ended, once it has."""
        raise NotImplementedError

    def destroy(self) -> bool:
        """Kill and remove it; return False if it may still exist. Thread-safe, repeatable."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Clean up what no job needs, once this one is reported. Raises nothing."""

    def take_line(self, stream: str, piece: Piece) -> None:
        """Take a line that the child has printed, or a piece of one."""
        self.reporter.add_line(stream, piece)

    def _spawn(self, command: list[str], environment: dict[str, str], stdin: int) -> Child:
        wake, wait_for_room = self.situation.wake, self.reporter.wait_for_room
        child = Child(command, environment, self.take_line, wake, stdin, wait_for_room)
        if self.config.owns_machine:  # the agent's own preference is for the agent alone
            set_score(CHILD_SCORE, str(child.pid))
        return child
