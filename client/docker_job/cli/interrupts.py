"""Ctrl-C and the signals that end a process, while a job is followed.

On a terminal the first Ctrl-C asks whether to detach or to cancel, and the second detaches.
Elsewhere the first one detaches. SIGTERM and SIGHUP detach at once.
"""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from enum import Enum

QUESTION = "Ctrl-C: detach or cancel? [d/c]"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Wish(Enum):
    """A wish of the user."""

    DETACH = "detach"
    CANCEL = "cancel"


class Interrupts:
    """Waits for a signal or an answer. `code` is the exit code of a process that detaches."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue()
        self.is_asking = False
        self.changed = asyncio.Event()
        """Set when the question is asked or answered."""
        self.code = 128 + signal.SIGINT
        self._before: list[int | list[bytes | int]] | None = None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals while the block lasts."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            self._stop_asking()

    async def next(self) -> Wish:
        """Wait for the next wish."""
        return await self._wishes.get()

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGINT and self._asks and not self.is_asking and self._ask():
            return
        self.code = 128 + number
        self.wish(Wish.DETACH)

    def _ask(self) -> bool:
        """Read keys one by one; return False if standard input cannot be read so."""
        try:
            self._before = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno(), termios.TCSADRAIN)
        except (termios.error, ValueError, OSError):
            return False
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._on_key)
        self.is_asking = True
        self.changed.set()
        return True

    def _on_key(self) -> None:
        try:
            key = os.read(sys.stdin.fileno(), 1).lower()
        except OSError:
            key = b""
        if key == b"c":
            self.wish(Wish.CANCEL)
        elif key in (b"d", b""):
            self.wish(Wish.DETACH)

    def wish(self, wish: Wish) -> None:
        """Note what the user wishes."""
        self._stop_asking()
        self._wishes.put_nowait(wish)

    def _stop_asking(self) -> None:
        if not self.is_asking:
            return
        self.is_asking = False
        self.changed.set()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
