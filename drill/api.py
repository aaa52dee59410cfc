"""The HTTP API as its users call it: any failure is one exception, since the API may be away."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

CALL_SECONDS = 30.0
TERMINAL = frozenset({"DONE", "FAILED", "CANCELLED"})

Job = dict[str, Any]
"""A job in the form of `GET /status/{id}`."""


class NoAnswer(Exception):
    """The API did not answer, or not as it should; try again."""


class Refused(Exception):
    """The API refused a request for good: a fault of the drill or of the API."""


class Api:
    """The API at one address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def post(self, body: Any, key: str | None = None) -> Any:
        """Post one job or an array of jobs. Raises `NoAnswer`, `Refused`."""
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return json.loads(self._call("POST", "/schedule", json.dumps(body).encode(), headers))

    def job(self, job_id: int) -> Job:
        """Return the job with its attempts. Raises `NoAnswer`, `Refused`."""
        found: Job = json.loads(self._call("GET", f"/status/{job_id}"))
        return found

    def jobs(self, wave: str) -> list[Job]:
        """List the jobs of one outage. Raises `NoAnswer`, `Refused`."""
        found: list[Job] = json.loads(self._call("GET", f"/list?limit=all&label=drill:{wave}"))
        return found

    def log(self, job_id: int) -> str:
        """Return what the job's containers have printed. Raises `NoAnswer`, `Refused`."""
        return self._call("GET", f"/jobs/{job_id}/logs").decode(errors="replace")

    def trouble(self) -> str | None:
        """Return what `/readyz` names as missing or degraded; None: it is ready."""
        try:
            answer = json.loads(self._call("GET", "/readyz"))
        except (NoAnswer, Refused, ValueError) as error:
            return str(error)
        named = {name: answer.get(name) for name in ("missing", "degraded")}
        return ", ".join(f"{name}: {each}" for name, each in named.items() if each) or None

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Any = None
    ) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.address + path, method=method, data=body, headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
                read: bytes = answer.read()
                return read
        except urllib.error.HTTPError as error:
            text = f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:300]}"
            if error.code >= 500 or error.code == 429:
                raise NoAnswer(text) from None
            raise Refused(text) from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{method} {path}: {type(error).__name__} {error}") from None
