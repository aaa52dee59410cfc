"""uvicorn as a part of a program that is composed of several."""

import contextlib
from collections.abc import Iterator

import uvicorn


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the composed process decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Accept no new requests; `serve` returns when the running ones are answered."""
        self.should_exit = True
