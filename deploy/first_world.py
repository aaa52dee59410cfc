"""The world of a first run: the account, our scripts, and the API that they have deployed."""

import http.client
import json
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.account import Account
from deploy.source import ROOT

OVER = ("DONE", "FAILED", "CANCELLED")
LOOK_SECONDS = 5.0
TRIES = 3
"""Of a call that only reads: one lost connection ends no step of an hour."""

TAIL = 40
"""Lines of a command's output in the report."""

Facts = dict[str, Any]


class Differs(Exception):
    """A step did not go as it must. The message is one line for the report."""


class Skipped(Exception):
    """A step that cannot run here. The message names what it needs."""


class ByHand(Exception):
    """A step that only the operator can take. The message has the commands; *facts* are known."""

    def __init__(self, why: str, **facts: Any) -> None:
        super().__init__(why)
        self.facts: Facts = facts


class _NoAnswer(Exception):
    """The API was not reached."""


def require(holds: object, why: str) -> None:
    """Raise `Differs` unless *holds*."""
    if not holds:
        raise Differs(why)


@dataclass(frozen=True)
class Choices:
    """The operator's choices."""

    email: str
    budget_usd: int = 10
    image: str = "public.ecr.aws/docker/library/busybox:latest"
    """Without Docker Hub's limits of anonymous pulls."""

    fis_role: str = ""
    allow: str = ""
    burst: int = 20


@dataclass
class World:
    """All that the steps act on; *run* starts a program."""

    account: Account
    stack: str
    options: Sequence[str]
    choices: Choices
    key_file: Path
    access: dict[str, str] = field(default_factory=dict)
    """`url` of the API, `ca` if its authority is its own; the key is in *key_file* alone."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    run: Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"] = field(
        default_factory=lambda: run_program
    )

    def script(self, name: str, *more: str) -> str:
        """Run deploy/*name*; return its output. Raises `Differs`."""
        done = self.run([str(ROOT / "deploy" / name), *self.options, *more])
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Differs(f"{name} ended with {done.returncode}: {' '.join(last)}")
        return done.stdout

    def module(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a module of this checkout, with the settings of this account."""
        where = (f"COMPUTE_URL=ec2://{self.account.region}", f"DEPLOYMENT={self.stack}")
        settings = [f"DOCKER_JOB_{each}" for each in where]
        if self.options[-2:-1] == ["--profile"]:
            settings.append(f"AWS_PROFILE={self.options[-1]}")
        return self.run(["env", *settings, sys.executable, "-m", name, *arguments])

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the API; return the decoded answer. Raises `Differs`."""
        text = self._ask(method, path, body)
        try:
            return json.loads(text or "null")
        except ValueError as error:
            raise Differs(f"{method} {path}: no JSON: {text[:300]}") from error

    def text(self, path: str) -> str:
        """Return what the API has at *path*, as text. Raises `Differs`."""
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
        tries = TRIES if method == "GET" else 1
        while True:
            try:
                return self._ask_once(method, path, body)
            except _NoAnswer as error:
                tries -= 1
                if not tries:
                    raise Differs(f"{method} {path}: {error}") from error
                self.sleep(LOOK_SECONDS)

    def _ask_once(self, method: str, path: str, body: Mapping[str, Any] | None) -> str:
        require("url" in self.access, "there is no API: the step deploy has not passed")
        require(self.key_file.exists(), f"there is no API key: put it into {self.key_file}")
        request = urllib.request.Request(  # noqa: S310 - the address that deploy.sh printed
            self.access["url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.key_file.read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        # Without a file of its own authority the system's are trusted, as for a load balancer.
        tls = ssl.create_default_context(cafile=self.access.get("ca"))
        try:
            with urllib.request.urlopen(request, timeout=30, context=tls) as answer:  # noqa: S310
                text: str = answer.read().decode(errors="replace")
                return text
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:300]
            raise Differs(f"{method} {path}: {error.code} {text}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _NoAnswer(f"{type(error).__name__}: {error}") from error

    def schedule(self, *command: str, image: str = "", **more: Any) -> int:
        """Schedule a job for now; return its id."""
        job = {"docker_image": image or self.choices.image, "scheduled_for": "now", **more}
        if command:
            job["command"] = list(command)
        return int(self.call("POST", "/schedule", job)["id"])

    def job(self, number: int) -> Facts:
        """Return the job in the form of `GET /status/{id}`."""
        found: Facts = self.call("GET", f"/status/{number}")
        return found

    def until(self, what: str, seconds: float, found: Callable[[], Any]) -> Any:
        """Ask every few seconds until *found* has a result. Raises `Differs`."""
        deadline = self.clock() + seconds
        while self.clock() < deadline:
            if answer := found():
                return answer
            self.sleep(LOOK_SECONDS)
        raise Differs(f"{what}: not within {seconds:g} s")

    def until_over(self, number: int, wanted: str, seconds: float = 900) -> Facts:
        """Wait for the end of a job. Raises `Differs` unless it ends as *wanted*."""

        def over() -> Facts | None:
            found = self.job(number)
            return found if found["status"] in OVER else None

        job: Facts = self.until(f"job {number} is over", seconds, over)
        require_status(job, wanted)
        return job


def require_status(job: Facts, wanted: str) -> None:
    """Raise `Differs` unless a job that is over has ended as *wanted*."""
    why = job.get("error_message") or job.get("status_reason")
    require(job["status"] == wanted, f"job {job['id']} is {job['status']}, not {wanted}: {why}")


def run_program(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a program, without a time limit: a deployment takes up to half an hour."""
    return subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)


def tail(text: str) -> list[str]:
    """Return the last lines of an output."""
    return text.strip().splitlines()[-TAIL:]
