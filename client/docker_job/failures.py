"""The errors of a connection and of an answer, in words."""

import json
import os
import socket
import ssl
from collections.abc import Iterator

import httpx

from docker_job.errors import ApiError, Unreachable, api_error
from docker_job.retrying import Failure, retry_after_of
from docker_job.target import Target

UNKNOWN_AUTHORITY = frozenset({18, 19, 20})
"""X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT and the two after it:
https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/"""

UNKNOWN_AUTHORITY_REMEDY = " (name a file with its authority: --cacert, or DOCKER_JOB_CACERT)"


def failure_of(error: httpx.RequestError) -> Failure:
    """Return what a retry depends on: a request whose connection never stood was not sent."""
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
    return Failure(sent=not isinstance(error, unsent))


def unreachable(target: Target, error: httpx.RequestError) -> Unreachable:
    """Make the error of a request that got no answer."""
    return Unreachable(target.url, _reason(error), local=target.is_local)


def _reason(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    known = next((words for each in _causes(error) if (words := _words(each))), None)
    if known is None and isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return "the connection was cut"
    return known or str(error) or type(error).__name__


def _words(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        known = "" if error.verify_code not in UNKNOWN_AUTHORITY else UNKNOWN_AUTHORITY_REMEDY
        return f"its certificate is not valid: {error.verify_message}{known}"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        text = os.strerror(error.errno)  # asyncio puts words of its own into `strerror`
        return text[:1].lower() + text[1:]
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return the errors behind *error*, the nearest first."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]


def answered(response: httpx.Response) -> tuple[Failure, ApiError]:
    """Read an answer that is an error: what a retry depends on, and the error."""
    status = response.status_code
    failure = Failure(status, retry_after_of(response.headers))
    if response.is_redirect:  # followed, it might send the key elsewhere
        place = response.headers["Location"]
        return failure, ApiError(
            status,
            f"The API redirects to {place}.",
            'Use the URL that it names: "docker-job login URL".',
        )
    error = api_error(status, _message(response))
    error.request_id = response.headers.get("X-Request-Id")
    if status >= 500 and error.request_id:
        error.hint = f"{error.hint} The API's log has it under request {error.request_id}.".lstrip()
    return failure, error


def _message(response: httpx.Response) -> str:
    try:
        message = json.loads(response.content)["message"]
    except (ValueError, LookupError, TypeError):
        return f"HTTP {response.status_code} {response.reason_phrase}".strip()
    return str(message)
