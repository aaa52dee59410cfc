"""A reader of server-sent events as a browser's EventSource is: it connects again and goes on."""

import json
from collections.abc import Generator, Iterator
from typing import Any

import httpx
from msgspec import Struct

from tests.support.waiting import until

SECONDS = 60


class Received(Struct, frozen=True):
    """One event, whole: its name and its data, an object a line."""

    name: str
    data: list[dict[str, Any]]


class EventSource:
    """The events at *path*; what was cut in the middle of an event is not one."""

    def __init__(self, address: str, path: str) -> None:
        self._address = address
        self._path = path
        self.first_id = self.last_id = ""
        self.connected = 0
        """How often it has connected."""

    def read(self) -> Iterator[Received]:
        """Yield events until the server says that there are no more, by a 204."""
        with httpx.Client(base_url=self._address, timeout=SECONDS) as http:
            while True:
                answers: list[Generator[Received, None, bool]] = []
                until(lambda: self._connects(http, answers), SECONDS, "it connects again")  # noqa: B023
                ended = yield from answers[0]
                if ended:
                    return

    def _connects(self, http: httpx.Client, answers: list[Generator[Received, None, bool]]) -> bool:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        try:
            request = http.build_request("GET", self._path, headers=headers)
            answer = http.send(request, stream=True)
        except httpx.TransportError:
            return False
        if answer.status_code == 503:
            answer.close()
            return False
        assert answer.status_code in (200, 204), answer.read()
        self.connected += 1
        answers.append(self._events(answer))
        return True

    def _events(self, answer: httpx.Response) -> Generator[Received, None, bool]:
        try:
            if answer.status_code == 204:
                return True
            yield from self._parsed(answer)
        except httpx.TransportError:
            return False
        finally:
            answer.close()
        return False

    def _parsed(self, answer: httpx.Response) -> Iterator[Received]:
        name, last_id, data = "message", self.last_id, []
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(json.loads(value))
            elif not line:
                self.last_id = last_id
                self.first_id = self.first_id or last_id
                if data:
                    yield Received(name, data)
                name, data = "message", []
