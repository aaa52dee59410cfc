"""The measured machine: its description and its load."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("aio-pika", "aiormq", "asyncpg", "msgspec", "starlette", "uvicorn", "uvloop")
AT_REST = 0.3
"""A machine with a lower load a core counts as at rest."""


def describe() -> dict[str, object]:
    """Describe the machine: processors, memory, versions."""
    memory = psutil.virtual_memory()
    return {
        "processors": psutil.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(memory.total / 2**30, 1),
        "memory_free_gib": round(memory.available / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def load() -> list[float]:
    """Return the load averages over the last 1, 5 and 15 minutes."""
    return [round(each, 2) for each in psutil.getloadavg()]


def warn_if_busy() -> None:
    """Print a warning where the machine is busy."""
    [last_minute, *_] = load()
    if last_minute > AT_REST * (psutil.cpu_count() or 1):
        print(f"bench: the machine is not at rest (load {last_minute:g})", file=sys.stderr)


def commit(tree: Path) -> str:
    """Return the commit of *tree*, or "" where it is not a checkout."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
