"""Emulators of AWS that others have written, each run as a program of its own.

moto in server mode is one of our packages. ministack pins a botocore of its own, so it has an
environment of its own: `make test-campaign` installs it.
"""

import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.run.ports import free_port
from tests.support.run.state import ROOT, this_run

REGION = "us-east-1"
START_SECONDS = 60.0
MINISTACK = ROOT / ".venv" / "emulators" / "bin" / "python"


class Emulator:
    """A running emulator: one account in one region."""

    def __init__(self, name: str, command: list[str], port: int, **environment: str) -> None:
        this_run().start_keeper()  # which ends it if this worker does not
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.directory = tempfile.TemporaryDirectory(prefix=f"docker-job-{name}-")
        self.log = Path(self.directory.name, "log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory.name,
                env={**self._inherited(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def environment(self) -> dict[str, str]:
        """Return the variables that point an AWS SDK here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """Make a boto3 client, by default an operator's."""
        given = credentials or {"AccessKeyId": "test", "SecretAccessKey": "test"}
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given.get("SessionToken"),
        )

    def close(self) -> None:
        """Stop it, and remove its directory."""
        self._process.kill()
        self._process.wait()
        self.directory.cleanup()

    def _inherited(self) -> dict[str, str]:
        directory = self.directory.name
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": directory,
            "TMPDIR": directory,
            "PYTHONPATH": "",
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(f"{self.name} did not start")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=1).close()  # noqa: S310 - our own address
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


def start_moto() -> Emulator:
    """Start moto's server."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return Emulator("moto", command, port)


def start_ministack() -> Emulator:
    """Start ministack. Skips where it is not installed."""
    if not MINISTACK.exists():
        pytest.skip("ministack is not installed: make test-campaign installs it")
    port = free_port()
    return Emulator(
        "ministack",
        [str(MINISTACK), "-m", "ministack"],
        port,
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
    )
