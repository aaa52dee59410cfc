"""Plain HTTP beside TLS: for agents that were launched before the deployment had TLS, or for all.

An instance keeps the address that it was launched with until its job ends. `PLAIN_HTTP` is the time
until which such agents are served, on a port of their own; no API key is read there. `open` is what
`deploy.sh --insecure` chooses: every route, in clear.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.settings import PREFIX, BadSetting, Settings

OPEN = "open"
FOR_AGENTS = ("/agent/", "/callback/")
HEALTH = ("/healthz", "/readyz")
"""Agents ask for `/healthz` to recognize the API."""

REFUSAL = {"message": "this port serves agents of earlier releases: use HTTPS, at the API's port"}


@dataclass(frozen=True)
class PlainHttp:
    """The second port, and until when agents are served there; *until* None: all routes, always."""

    port: int
    until: datetime | None


def read_plain(settings: Settings, *, tls: bool) -> PlainHttp | None:
    """Read `PLAIN_HTTP` and `PLAIN_PORT`; None: there is no second port. Raises `BadSetting`."""
    text = settings.text("PLAIN_HTTP")
    port = settings.integer("PLAIN_PORT", 8080, least=1, most=65_535)
    if text is None:
        return None
    if not tls:
        raise BadSetting(
            f"{PREFIX}PLAIN_HTTP is {text!r}, and there is no certificate: set "
            f"{PREFIX}TLS_CERTIFICATE_FILE, or leave it out, and {PREFIX}PORT serves plain HTTP"
        )
    if text == OPEN:
        return PlainHttp(port, None)
    try:
        until = datetime.fromisoformat(text)
        zone = until.tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise BadSetting(
            f"{PREFIX}PLAIN_HTTP is {text!r}: it must be {OPEN}, or the time until which agents of "
            "earlier releases are served, with its zone, like 2026-12-31T12:00:00Z"
        )
    return PlainHttp(port, until)


def for_agents_until(
    app: ASGIApp, until: datetime, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> ASGIApp:
    """Return *app* with the agents' routes alone, and without them once *until* has come.

    Another route is answered with 426 (RFC 9110, 15.5.22), whatever key the request has.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path"))
        served = path in HEALTH or (path.startswith(FOR_AGENTS) and now() < until)
        await (app if served else _refuse)(scope, receive, send)

    return serve


async def _refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    body = msgspec.json.encode(REFUSAL) + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"upgrade", b"TLS/1.2, HTTP/1.1"),
        (b"connection", b"close, upgrade"),
    ]
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": body})
