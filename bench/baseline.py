"""An older commit's code beside ours: checked out aside, run with the same Python.

Whatever else differs between the two trees is a bias, and was one: where modules are not kept
compiled (PYTHONDONTWRITEBYTECODE), our processes compiled their own and the older ones did not. So
both are compiled before.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPILED = ("services", "shared", "embedded", "operations", "bench")
LOCK = "requirements.txt"


class NoBaseline(Exception):
    """The commit cannot be had. The message says why."""


@dataclass(frozen=True)
class Baseline:
    """A commit, and the tree that it is checked out in."""

    commit: str
    tree: Path
    same_packages: bool
    """Whether it asks for the packages that are installed; nothing is installed for it."""


def compile_all(tree: Path) -> None:
    """Compile the modules of *tree*; no process started later has to compile its own."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "compileall", "-q", *COMPILED]
    subprocess.run(command, cwd=tree, capture_output=True, check=False)


@contextlib.contextmanager
def checked_out(commit: str, repository: Path) -> Iterator[Baseline]:
    """*commit* of *repository* in a worktree that is gone behind the block. Raises `NoBaseline`."""
    with tempfile.TemporaryDirectory(prefix="docker-job-baseline-") as directory:
        tree = Path(directory) / "tree"
        _git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            compile_all(tree)
            yield Baseline(
                commit=_git(tree, "rev-parse", "--short", "HEAD"),
                tree=tree,
                same_packages=(tree / LOCK).read_bytes() == (repository / LOCK).read_bytes(),
            )
        finally:
            _git(repository, "worktree", "remove", "--force", str(tree))


def ours_first(run: int) -> bool:
    """Whether ours goes first in this *run*: they take turns, since the second finds warm files.

    So neither a drift of the machine nor the place in the pair falls on one of them alone.
    """
    return run % 2 == 0


def _git(tree: Path, *arguments: str) -> str:
    try:
        asked = subprocess.run(
            ["git", *arguments], cwd=tree, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NoBaseline(f"git cannot be run: {error}") from error
    if asked.returncode:
        raise NoBaseline(f"git {arguments[0]}: {asked.stderr.strip()}")
    return asked.stdout.strip()
