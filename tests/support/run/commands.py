"""Commands of ours as processes: their settings, their output, their one line of refusal."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings of docker-job alone."""
    kept = {name: value for name, value in os.environ.items() if "DOCKER_JOB" not in name}
    return kept | {f"DOCKER_JOB_{name}": value for name, value in settings.items()}


def run(*arguments: str | Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of ours as a process."""
    return run_in(ROOT, *arguments, **settings)


def run_in(
    directory: Path, *arguments: str | Path, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run a module of ours as a process in *directory*."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory, env=environment(**settings) | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line of a command that refuses, with nothing on standard output."""
    assert done.returncode != 0
    assert done.stdout == ""
    [line] = [each for each in done.stderr.splitlines() if not each.startswith("usage: ")]
    return line
