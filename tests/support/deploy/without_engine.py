"""The services' instance at its first boot, with programs that only note how they were called.

What is real: the user data, the source out of the bucket, the start script with all that it asks
of AWS. What is not: no package is installed, nothing is built, and the API has only `/readyz`.
"""

import json
import re
from email.message import Message
from pathlib import Path

import boto3

from tests.deploy.conftest import MotoCloud
from tests.support.deploy.instance_world import FirstBoot, SmallServer

PROGRAMS = ("apt-get", "curl", "docker")
NOTING = Path(__file__).with_name("noting_program.py")
PACKAGES = Path(boto3.__file__).parents[1]
"""The instance's Python is given boto3 so: it is of any version."""


class Ready(SmallServer):
    """`/readyz` of an API that is up."""

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        return (200, "{}") if path == "/readyz" else (404, "")


class FirstBootWithoutEngine(FirstBoot):
    """An instance whose engine does nothing."""

    machine = "python:3.13-slim"

    def __init__(self, aws: MotoCloud) -> None:
        super().__init__(aws)
        self._programs = self._disk / "programs"
        self._programs.mkdir()
        for name in PROGRAMS:
            source = NOTING.read_text()
            (self._programs / name).write_text(f"#!/usr/bin/env python3\n{source}")
            (self._programs / name).chmod(0o755)
        self._ready = Ready(self.port)

    def _mounts(self) -> list[str]:
        return [str(self._disk), f"{self._disk}/data", str(PACKAGES)]

    def _env(self) -> dict[str, str]:
        usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return super()._env() | {
            "PATH": f"{self._programs}:{usual}",
            "PYTHONPATH": str(PACKAGES),
            "PYTHONPYCACHEPREFIX": f"{self._disk}/compiled",
        }

    def fail(self, words: str, times: int = 1) -> None:
        """Have the next calls of a program with these words fail."""
        with (self._programs / "faults").open("a") as file:
            file.write(f"{words}\n" * times)

    def hurry(self) -> None:
        """Have the user data repeat its steps for some seconds instead of minutes."""
        path = self._disk / "user-data"
        path.write_text(re.sub(r"^again [0-9]+ ", "again 3 ", path.read_text(), flags=re.MULTILINE))

    def calls(self, program: str) -> list[str]:
        """Return the calls of *program*, each as one line without the options that name files."""
        lines = (self._programs / "calls").read_text().splitlines()
        return [" ".join(words[1:]) for words in map(json.loads, lines) if words[0] == program]

    def close(self) -> None:
        self._ready.close()
        super().close()
