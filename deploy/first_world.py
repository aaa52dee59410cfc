"""The world of a first run: the account, our scripts, and the API that they have deployed."""

import json
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
TAIL = 40
"""Lines of a command's output in the report."""

Facts = dict[str, Any]


class Differs(Exception):
    """A step did not go as it must. The message is one line for the report."""


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
    """`url` of the API; the key is in *key_file*, not in the report."""

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

    def module(self, name: str) -> "subprocess.CompletedProcess[str]":
        """Run a module of this checkout, with the settings of this account."""
        where = (f"COMPUTE_URL=ec2://{self.account.region}", f"DEPLOYMENT={self.stack}")
        settings = [f"DOCKER_JOB_{each}" for each in where]
        if self.options[-2:-1] == ["--profile"]:
            settings.append(f"AWS_PROFILE={self.options[-1]}")
        return self.run(["env", *settings, sys.executable, "-m", name])

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the API. Raises `Differs`."""
        request = urllib.request.Request(  # noqa: S310 - the address that deploy.sh printed
            self.access["url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.key_file.read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:300]
            raise Differs(f"{method} {path}: {error.code} {text}") from error
        except OSError as error:
            raise Differs(f"{method} {path}: {error}") from error

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
            self.sleep(5)
        raise Differs(f"{what}: not within {seconds:g} s")

    def until_over(self, number: int, wanted: str, seconds: float = 900) -> Facts:
        """Wait for the end of a job. Raises `Differs` unless it ends as *wanted*."""

        def over() -> Facts | None:
            found = self.job(number)
            return found if found["status"] in OVER else None

        job: Facts = self.until(f"job {number} is over", seconds, over)
        if job["status"] != wanted:
            why = job.get("status_reason") or job.get("error")
            raise Differs(f"job {number} is {job['status']}, not {wanted}: {why}")
        return job


def run_program(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a program, without a time limit: a deployment takes up to half an hour."""
    return subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)


def tail(text: str) -> list[str]:
    """Return the last lines of an output."""
    return text.strip().splitlines()[-TAIL:]
