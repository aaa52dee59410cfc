"""The line that says that the connection is lost, once for all streams of a command."""

from collections.abc import Callable

from docker_job.cli.screen import Screen
from docker_job.errors import DockerJobError


class Trouble:
    """Knows which streams are cut. That they go on needs no line: what follows shows it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._cut: set[object] = set()

    def of(self, stream: object) -> Callable[[DockerJobError | None], None]:
        """Return what a stream calls: with an error when it was cut, with None when it goes on."""

        def note(error: DockerJobError | None) -> None:
            if error is None:
                self._cut.discard(stream)
                return
            if not self._cut:
                self._screen.note("connection lost, trying again …")
            self._cut.add(stream)

        return note
