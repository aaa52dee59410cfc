"""One pull by the engine, whose progress a thread of its own reads."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from .engine_api import EngineAnswer, EngineApi
from .errors import EngineError
from .log import log
from .progress import PullProgress


class EnginePull:
    """One pull; once it has `ended`, `error` is why it failed, empty if it did not.

    Starting one raises EngineError.
    """

    def __init__(self, image: str, headers: Mapping[str, str], wake: Callable[[], None]) -> None:
        self.progress = PullProgress()
        self.error = "the agent could not read the progress of the pull"
        self.ended = False
        self.alive_at = time.monotonic()  # when the engine last sent progress
        self._path = pull_path(image)
        self._headers = headers
        self._wake = wake
        self._engine = EngineApi()
        threading.Thread(target=self._run, name="pull", daemon=True).start()

    def close(self) -> None:
        """End the connection: the engine drops the pull of a client that is gone."""
        self._engine.close()

    def _run(self) -> None:
        try:
            self.error = self._read()
        except EngineError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001 - the main thread waits for the end
            log("pull fault", error=type(error).__name__)
        finally:
            self.ended = True
            self._wake()

    def _read(self) -> str:
        error = ""
        for given in self._engine.stream("POST", self._path, self._headers):
            if isinstance(given, EngineAnswer):
                return given.message
            if isinstance(given, dict):
                error = _error_in(given) or error
                if self.progress.take(given):
                    self.alive_at = time.monotonic()
        return error


def pull_path(image: str) -> str:
    """Return the path and query of the call; without a tag the engine would pull every tag.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageCreate
    """
    name, _, digest = image.partition("@")
    tagged = re.fullmatch(r"(.+):([^/:]*)", name)
    name, tag = tagged.groups() if tagged else (name, "latest")
    return "/images/create?" + urlencode({"fromImage": name, "tag": digest or tag})


def _error_in(message: Mapping[str, Any]) -> str:
    """Return an object's error: in a stream it comes after a status of 200."""
    detail = message.get("errorDetail")
    named = detail.get("message") if isinstance(detail, dict) else None
    return str(named or message.get("error") or "")
