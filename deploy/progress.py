"""What is going on: one line that moves on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

WIDTH = 78


@dataclass
class Progress:
    """Says how far something is. `seconds` is a monotonic clock."""

    out: TextIO
    seconds: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _last: str = field(default="", init=False)
    _open: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._began = self.seconds()

    def show(self, text: str) -> None:
        """Where it is now. Off a terminal, what was said last is not said again."""
        if self.out.isatty():
            line = f"  {self._elapsed()}  {text}"[:WIDTH]
            self.out.write(f"\r{line:<{WIDTH}}")
            self.out.flush()
            self._open = True
        elif text != self._last:
            self.out.write(f"  {self._elapsed()}  {text}\n")
            self.out.flush()
        self._last = text

    def done(self, text: str) -> None:
        """The last word; the line is ended."""
        self.show(text)
        if self._open:
            self.out.write("\n")
            self._open = False
        self._last = ""

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self.seconds() - self._began), 60)
        return f"{minutes}:{seconds:02}"
