"""The id of an HTTP request: in the answer's `X-Request-Id`, and on the log lines of its work.

A client may send an id of its own, to find its request in our log; of any other form it is ignored,
since it is written into log lines and headers. The header is a convention of proxies and servers:
https://http.dev/x-request-id.
"""

import contextlib
import random
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

HEADER = b"x-request-id"
SAFE = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""The form of an id that is taken from a client."""

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def id_from(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the request's own id, if there is one and it is safe; else a new one."""
    given = [value for name, value in headers if name == HEADER]
    if len(given) == 1 and SAFE.fullmatch(given[0]):
        return given[0]
    return b"%016x" % random.getrandbits(64)  # a name, no secret: urandom takes longer


def current() -> str | None:
    """Return the id of the request that this task serves, or None."""
    return _current.get()


@contextlib.contextmanager
def serving(request_id: str | None) -> Iterator[None]:
    """Make *request_id* the current one: for this task and for those that it starts."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
