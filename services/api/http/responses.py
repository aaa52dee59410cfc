"""Responses: JSON bodies, and errors as JSON with a `message`."""

import math
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from services.api.agents.builds import NoSuchBuild
from services.api.agents.claims import SecretsClosed
from services.api.agents.refusals import Refused
from services.api.agents.sts_calls import StsUnavailable
from services.api.dead_letters.letters import LetterInBroker, NoSuchLetter
from services.api.group_commit import Overloaded, Stopping
from services.api.http.bodies import NoRoom, TooLarge, TooSlow
from services.api.http.headers import header_of
from services.api.jobs.queries import AlreadyOver, NoSuchJob
from services.api.jobs.retention_sweeps import NotRemovable
from services.api.keys.access import Denied
from services.api.keys.rates import TooMany
from services.api.keys.service import KeyNeeded, NoSuchKey
from services.api.shares import ShareUsed
from services.api.submission.intake import KeyConflict
from services.api.submission.job_quotas import JobQuotaReached
from services.api.submission.request import BadRequest
from shared.log import get_logger
from shared.postgres.errors import advice_of, is_transient

_log = get_logger(service="api", part="http")
_encoder = msgspec.json.Encoder()

RETRY_SECONDS = "1"
"""After a 429 or 503, if nothing more is known."""


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Respond with *value* as JSON that ends with a line break, for terminals."""
    return raw_answer(_encoder.encode(value), status, headers)


def raw_answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Respond with JSON bytes; a 429 or 503 names the time to try again."""
    if status in (429, 503):
        headers = {"Retry-After": RETRY_SECONDS, **(headers or {})}
    return Response(body + b"\n", status, headers, media_type="application/json")


def _message(status: int, message: str, **more: Any) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return answer({"message": message, **more}, status, headers)


def malformed(reason: str) -> Response:
    """Answer a request that is refused before it reaches a route."""
    return _message(400, reason)


_STATUSES: dict[type[Exception], int] = {
    BadRequest: 400,
    NoSuchJob: 404,
    NoSuchBuild: 404,
    AlreadyOver: 409,
    NotRemovable: 409,
    KeyConflict: 409,
    JobQuotaReached: 429,
    NoSuchLetter: 404,
    LetterInBroker: 409,
    NoSuchKey: 404,
    KeyNeeded: 409,
    TooLarge: 413,
    TooSlow: 408,
    Stopping: 503,
    Overloaded: 503,
    ShareUsed: 429,
    StsUnavailable: 503,
    SecretsClosed: 503,
}
"""The HTTP status of each of the API's own errors."""


async def on_known_error(_request: Request, error: Exception) -> Response:
    """Answer an error of `_STATUSES`."""
    return _message(_STATUSES[type(error)], str(error))


async def on_refused(_request: Request, error: Exception) -> Response:
    """Answer a refused agent; a 409 tells it to stop its container."""
    if not isinstance(error, Refused):
        raise error
    if error.status == 409:
        more: dict[str, Any] = {"kept": True} if error.kept else {}
        more |= {"settings": error.settings} if error.settings else {}
        return _message(409, str(error), stop=True, cause=error.cause, **more)
    return _message(error.status, str(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer Starlette's own errors: no such path, wrong method."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 404:
        return _message(404, f"Not found: {request.scope['path']}")
    headers = dict(error.headers or {})
    message = str(error.detail)
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_of(request))
        message = f"Method not allowed: use {headers['Allow']}"
    response = _message(error.status_code, message)
    response.headers.update(headers)
    return response


def _methods_of(request: Request) -> list[str]:
    """Return the methods of all routes of the path; Starlette names those of the first alone."""
    routes = (each for each in request.app.routes if isinstance(each, Route))
    path = request.scope["path"]
    return sorted(
        {name for each in routes if each.path_regex.match(path) for name in each.methods or ()}
    )


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer an unexpected error: a 503 that says how the database is unavailable, else a 500."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if is_transient(error):
        _log.warning("request failed", path=request.scope["path"], error=str(error))
        return _message(503, advice_of(error))
    _log.error("request failed", path=request.scope["path"], exc_info=error)
    return _message(500, "internal error")


async def on_denied(_request: Request, error: Exception) -> Response:
    """Answer a web page, or a caller whose key is missing, unknown, or of too small a scope."""
    if not isinstance(error, Denied):
        raise error
    return _message(error.status, str(error))


async def on_job_quota(_request: Request, error: Exception) -> Response:
    """Answer a submission over a quota of live jobs; nobody can name a time to try again."""
    response = _message(429, str(error))
    del response.headers["Retry-After"]
    return response


async def on_too_many(_request: Request, error: Exception) -> Response:
    """Answer a caller over its rate limit; `Retry-After` says when to try again."""
    if not isinstance(error, TooMany):
        raise error
    response = _message(429, str(error))
    response.headers["Retry-After"] = str(math.ceil(error.wait_seconds))
    return response


async def on_no_room(_request: Request, error: Exception) -> Response:
    """Answer a request whose body has no room: other bodies use up the memory budget."""
    if not isinstance(error, NoRoom):
        raise error
    response = _message(503, str(error))
    response.headers["Retry-After"] = str(error.retry_seconds)
    return response


ERROR_HANDLERS: dict[Any, Any] = {
    **dict.fromkeys(_STATUSES, on_known_error),
    Refused: on_refused,
    Denied: on_denied,
    JobQuotaReached: on_job_quota,
    TooMany: on_too_many,
    NoRoom: on_no_room,
    HTTPException: on_http_error,
}


def is_our_fault(error: Exception) -> bool:
    """Return whether the answer to *error* is a 5xx."""
    if isinstance(error, HTTPException):
        return error.status_code >= 500
    if isinstance(error, (Refused, Denied, TooMany)):
        return False
    return _STATUSES.get(type(error), 500) >= 500


def job_id_of(request: Request) -> int:
    """Return the job id in the path. Raises `NoSuchJob` if it is no positive integer."""
    raw = request.path_params["id"]
    digits = raw.lstrip("0")
    if not digits or not digits.isascii() or not digits.isdecimal():
        raise NoSuchJob(f"there is no job {raw[:40]!r}: ids are positive whole numbers")
    if len(digits) > 19 or int(digits) >= 2**63:
        raise NoSuchJob(f"there is no job {digits[:40]}: no id is so large")
    return int(digits)


def bearer_of(request: Request) -> str | None:
    """Return the token in the Authorization header, or None."""
    scheme, _, token = (header_of(request, b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
