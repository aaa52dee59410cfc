"""HTTP over one kept-alive connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from .errors import UnreachableError

MAX_ANSWER_BYTES = 16 * 1024 * 1024


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """An HTTP response, its body as text; the names of headers are in lower case."""

    status: int
    text: str
    headers: Mapping[str, str] = NO_HEADERS
    foreign: bool = False  # it lacks the mark that the answers of our API have

    def json(self) -> object:
        """Return the body's JSON, None if it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class Http:
    """One kept-alive connection to one server, for one thread at a time."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        url = urlsplit(base_url)
        secure = url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        # Without a port http.client would take the end of an IPv6 address for one.
        port = url.port or (443 if secure else 80)
        self._connection = kind(url.hostname or "", port, timeout=timeout_seconds)
        self._prefix = url.path.rstrip("/")
        # ValueError: what is no HTTP, and a name that no DNS query can have.
        self._errors = (OSError, http.client.HTTPException, ValueError)

    def request(
        self, method: str, path: str, headers: dict[str, str], body: object = None
    ) -> Answer:
        """Send a request and return its response; raises UnreachableError.

        The server may just have closed a kept connection, so a failure on one is followed by one
        try on a new one. Every call of the agent is idempotent.
        """
        kept = self._connection.sock is not None
        try:
            return self._exchange(method, path, headers, body)
        except self._errors as error:
            self._connection.close()
            if not kept or isinstance(error, TimeoutError):
                raise UnreachableError(f"{type(error).__name__}: {error}") from None
        try:
            return self._exchange(method, path, headers, body)
        except self._errors as error:
            self._connection.close()
            raise UnreachableError(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: object) -> Answer:
        content = body if isinstance(body, bytes) else None
        if body is not None and content is None:
            content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            headers = {**headers, "Content-Type": "application/json"}
        self._connection.request(method, self._prefix + path, content, headers)
        response = self._connection.getresponse()
        raw = response.read(MAX_ANSWER_BYTES)
        if not response.isclosed():  # too long: the rest would be read as the next response
            self._connection.close()
        given = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, raw.decode("utf-8", "replace"), given)
