"""The line that says that the connection is lost, once for all streams of a command."""

from docker_job.cli.screen import Screen
from docker_job.errors import DockerJobError


class Trouble:
    """Is called with an error when a stream was cut, and with None when it goes on.

    That it goes on needs no line: what follows shows it.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_known = False

    def __call__(self, error: DockerJobError | None) -> None:
        """Say that the connection is lost, unless that was said."""
        if error is not None and not self._is_known:
            self._screen.note("connection lost, trying again …")
        self._is_known = error is not None
