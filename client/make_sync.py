"""Make `docker_job/_sync` from `docker_job/_async`: one source for both clients (`make client`)."""

import subprocess
import sys
from pathlib import Path

from unasync import Rule, unasync_files  # type: ignore[import-untyped]

PACKAGE = Path(__file__).resolve().parent / "docker_job"
NAMES = {
    "_async": "_sync",
    "AsyncClient": "Client",
    "AsyncItems": "Items",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "aclose": "close",
    "aclosing": "closing",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "async_pause": "pause",
}


def make(target: Path) -> None:
    """Write the synchronous modules into *target*."""
    source = PACKAGE / "_async"
    files = sorted(source.glob("*.py"))
    unasync_files([str(each) for each in files], [Rule(str(source), str(target), NAMES)])
    for each in files:
        made = target / each.name
        text = made.read_text(encoding="utf-8").replace("asynchronous", "synchronous")
        head = f"# Made by `make client` from docker_job/_async/{each.name}: change that file.\n"
        made.write_text(head + text, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--config", str(PACKAGE.parents[1] / "pyproject.toml"), "--quiet"]
    fixes = ["--select", "I,UP028", "--fix", "--unsafe-fixes"]  # imports; `yield from`
    subprocess.run([*ruff, "check", *fixes, *config, str(target)], check=True)
    subprocess.run([*ruff, "format", *config, str(target)], check=True)


if __name__ == "__main__":
    make(PACKAGE / "_sync")
