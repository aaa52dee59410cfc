"""The API over HTTP, as its user calls it, however it was started."""

from typing import Any

import httpx

TERMINAL = ("DONE", "FAILED", "CANCELLED")


class ApiClient:
    """Jobs posted and watched at one address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = httpx.Client(base_url=address, timeout=30)

    def schedule(self, scheduled_for: str = "now", **fields: Any) -> int:
        """POST a job; return its id."""
        body = {"docker_image": "alpine", "scheduled_for": scheduled_for, **fields}
        answer = self.http.post("/schedule", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def job(self, job_id: int) -> dict[str, Any]:
        """Return the job as /status shows it."""
        answer = self.http.get(f"/status/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def follow(self, job_id: int, seconds: float = 60) -> dict[str, Any]:
        """Follow the job's log until it ends, which is the event awaited; return the job then."""
        url = f"/jobs/{job_id}/logs?follow=1"
        with self.http.stream("GET", url, timeout=seconds) as answer:
            for line in answer.iter_lines():
                if line == "event: end":
                    break
        return self.job(job_id)

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job."""
        found: list[dict[str, Any]] = self.http.get("/list?limit=all").json()
        return found
