"""An older commit's code to compare with: in a worktree of its own, run with the same Python.

Any other difference between the two trees is a bias. One was that with PYTHONDONTWRITEBYTECODE our
processes compiled their modules and the older ones did not, so both are compiled first.
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
    """The commit is unavailable. The message says why."""


@dataclass(frozen=True)
class Baseline:
    """A commit and its checked-out tree."""

    commit: str
    tree: Path
    same_packages: bool
    """Whether it requires the installed packages; none are installed for it."""


def compile_all(tree: Path) -> None:
    """Compile the modules of *tree*, so that no process started later has to."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "compileall", "-q", *COMPILED]
    subprocess.run(command, cwd=tree, capture_output=True, check=False)


@contextlib.contextmanager
def checked_out(commit: str, repository: Path) -> Iterator[Baseline]:
    """Check out *commit* in a worktree for the length of the block. Raises `NoBaseline`."""
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
    """Return True if ours goes first in this *run*: they alternate, since the second is warm.

    So neither a drift of the machine nor the order affects one of them alone.
    """
    return run % 2 == 0


def _git(tree: Path, *arguments: str) -> str:
    try:
        asked = subprocess.run(
            ["git", *arguments], cwd=tree, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NoBaseline(f"cannot run git: {error}") from error
    if asked.returncode:
        raise NoBaseline(f"git {arguments[0]}: {asked.stderr.strip()}")
    return asked.stdout.strip()
