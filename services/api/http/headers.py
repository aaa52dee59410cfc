"""Reading the headers of a request."""

import re

from starlette.requests import Request
from starlette.types import Message, Scope, Send

CALL = b"x-docker-job-call"
ANSWER = b"x-docker-job-answer"
"""An agent's mark of its call, and the same in the answer: see `marked`."""

MARK = re.compile(rb"[0-9A-Za-z_-]{1,128}")

ONCE = frozenset(
    {
        b"host",
        b"authorization",
        b"content-length",
        b"content-type",
        b"idempotency-key",
        CALL,
        b"last-event-id",
    }
)
"""Headers with one value: of two, the client, a proxy and the API may each mean another one."""


def header_of(request: Request, name: bytes) -> str | None:
    """Return the first header *name* (lower case), ten times as fast as Starlette's own lookup."""
    for key, value in request.scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def trouble_with(scope: Scope, single: list[bytes]) -> str | None:
    """Return the reason to refuse a request that has the headers *single* of `ONCE`; or None."""
    if b"host" not in single and scope["http_version"] == "1.1":  # RFC 9112, 3.2
        return "the request has no Host header"
    if len(single) == len(set(single)):
        return None
    name = max(single, key=single.count)
    return f"the header {name.decode()} is given {single.count(name)} times: give it once"


def single_of(scope: Scope) -> list[bytes]:
    """Return the headers of `ONCE` that a request has."""
    return [name for name, _ in scope["headers"] if name in ONCE]


def marked(scope: Scope, send: Send) -> Send:
    """Return *send* that adds the mark of the agent's call to the answer, if it is well-formed.

    So the agent tells the API's answers from those of a proxy or a cache (docs/agent-protocol.md).
    """
    mark = next(value for name, value in scope["headers"] if name == CALL)
    if not MARK.fullmatch(mark):
        return send

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (ANSWER, mark)]}
        await send(message)

    return send_marked
