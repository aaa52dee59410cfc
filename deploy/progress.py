"""Progress output: one updated line on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

WIDTH = 78


@dataclass
class Progress:
    """Prints the progress of an operation. `seconds` is a monotonic clock."""

    out: TextIO
    seconds: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _last: str = field(default="", init=False)
    _open: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._began = self.seconds()

    def show(self, text: str) -> None:
        """Print the current step. Off a terminal, an unchanged step is not printed again."""
        if self.out.isatty():
            line = f"  {self._elapsed()}  {text}"[:WIDTH]
            self.out.write(f"\r{line:<{WIDTH}}")
            self.out.flush()
            self._open = True
        elif text != self._last:
            self.out.write(f"  {self._elapsed()}  {text}\n")
            self.out.flush()
        self._last = text

    def note(self, text: str) -> None:
        """Print a whole line, however long, beside the progress."""
        if self._open:
            self.out.write("\n")
            self._open = False
        self.out.write(f"  {self._elapsed()}  {text}\n")
        self.out.flush()
        self._last = ""

    def done(self, text: str) -> None:
        """Print the result, and end the line."""
        self.show(text)
        if self._open:
            self.out.write("\n")
            self._open = False
        self._last = ""

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self.seconds() - self._began), 60)
        return f"{minutes}:{seconds:02}"
