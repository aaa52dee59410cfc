# Made by `make client` from docker_job/_async/transport.py: change that file.
"""Requests to the API: sent again where that is safe and may help."""

import random
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import httpx

from docker_job import __version__
from docker_job.documents import Document
from docker_job.errors import DockerJobError, UnexpectedAnswer
from docker_job.failures import answered, failure_of, unreachable
from docker_job.iterating import pause
from docker_job.reading import read
from docker_job.retrying import pause_before_retry
from docker_job.target import Target

D = TypeVar("D", bound=Document)

JSON = {"Content-Type": "application/json"}
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 45.0
"""A stream that is silent for three times the API's keep-alive is dead."""


class Transport:
    """The connections to one API."""

    def __init__(self, target: Target, *, timeout: float, retries: int) -> None:
        self.target = target
        self._retries = retries
        headers = {"User-Agent": f"docker-job/{__version__}", "Accept": "application/json"}
        if target.key:
            headers["Authorization"] = f"Bearer {target.key}"
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            trust_env=not target.is_local,  # no proxy is asked for this machine
            verify=_certificates(target),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        expected: frozenset[int] = frozenset(),
    ) -> httpx.Response:
        """Return the answer; an error is raised, but for a status that is *expected*."""
        url, failures = self.target.url + path, 0
        headers = {**(headers or {}), **({} if body is None else JSON)}
        error: DockerJobError
        while True:
            try:
                response = self._http.request(
                    method, url, params=list(query), content=body, headers=headers
                )
                if response.is_success or response.status_code in expected:
                    return response
                failure, error = answered(response)
            except httpx.RequestError as cause:
                failure, error = failure_of(cause), unreachable(self.target, cause)
            failures += 1
            seconds = pause_before_retry(
                failure, failures, self._retries, repeatable=repeatable, chance=random.random()
            )
            if seconds is None:
                raise error
            pause(seconds)

    def stream(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
    ) -> AbstractContextManager[httpx.Response]:
        """Open an answer that is read piece by piece."""
        return self._http.stream(
            "GET",
            self.target.url + path,
            params=list(query),
            headers={"Accept-Encoding": "identity", **headers},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )

    def json(self, response: httpx.Response) -> Any:
        """Read a body that is JSON. Raises `UnexpectedAnswer`."""
        try:
            return response.json()
        except ValueError as error:
            kind = response.headers.get("Content-Type", "no type")
            raise UnexpectedAnswer(self.target.url, f"a body of {kind}") from error

    def read(self, kind: type[D], data: Any, **more: Any) -> D:
        """Read a document. Raises `UnexpectedAnswer`."""
        try:
            return read(kind, data, **more)
        except (TypeError, ValueError, AttributeError) as error:
            raise UnexpectedAnswer(self.target.url, "an unknown document") from error


def _certificates(target: Target) -> ssl.SSLContext | bool:
    """Return what certificates are checked against. To load that takes 50 ms: plain HTTP does not.

    An empty context trusts no certificate. With authorities of its own no other one is trusted.
    """
    if target.cacert is not None:
        return ssl.create_default_context(cafile=target.cacert)
    plain = target.is_local and target.url.startswith("http:")
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True


def next_cursor(response: httpx.Response) -> str | None:
    """Return where the next page begins: only the cursor of the link, whatever host it names."""
    link = response.links.get("next")
    cursor: str | None = httpx.URL(link["url"]).params.get("cursor") if link else None
    return cursor
