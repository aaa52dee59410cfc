"""The lines of a job's log on standard output and standard error, as the container printed them.

A line may come in pieces: they are put together again. The text of a piece that replaces the line
so far begins with a carriage return, which goes out as it is.
"""

from collections.abc import Callable

from docker_job.cli.screen import Screen
from docker_job.documents import LogLine

STREAMS = ("stdout", "stderr")


class LogOutput:
    """Writes the lines of one job.

    *before*: what stands before each line (a time, the job's name). *whole*: a line is written
    once it has ended, so that the lines of several jobs do not mix.
    """

    def __init__(
        self,
        screen: Screen,
        before: Callable[[LogLine], str] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self._screen = screen
        self._before = before
        self._whole = whole
        self._open: dict[str, str] = {}
        """Of each stream the line that has no end yet, as far as it is held back."""
        self._attempt = 0

    def write(self, line: LogLine) -> None:
        """Write a line or a piece; the lines of another attempt end those of the one before."""
        if line.attempt != self._attempt:
            self.close()
            self._attempt = line.attempt
        text = line.text
        if line.stream not in self._open and self._before:
            text = self._before(line) + text
        if line.stream not in STREAMS:  # a note that no container printed
            self._screen.note(text)
        elif line.continues is None:
            self._put(line.stream, f"{self._open.pop(line.stream, '')}{text}\n")
        elif self._whole:
            self._open[line.stream] = self._open.get(line.stream, "") + text
        else:
            self._open[line.stream] = ""
            self._put(line.stream, text)

    def close(self) -> None:
        """End the lines that have no end."""
        for stream in STREAMS:
            if stream in self._open:
                self._put(stream, f"{self._open.pop(stream)}\n")

    def _put(self, stream: str, text: str) -> None:
        self._screen.output(stream, text.encode(errors="replace"))
