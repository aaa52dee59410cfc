"""pytest's hooks for a run in several processes: `tests/conftest.py` has them.

A file is the unit that a worker takes, since its tests share fixtures; what is long and can be
divided is parametrised by shards, each of which is a unit of its own.
"""

import fcntl
import functools
import gc
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import structlog
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.support.run.state import ALIVE, ENDING, begin, make_directory, this_run

# The environment may forbid bytecode, as in images. Hundreds of processes of these tests would then
# compile every module, and each worker rewrite every assertion, in each run.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONGEST_FIRST = ("e2e", "deploy", "integration", "contract", "unit")
SHARD = re.compile(r"\[shard \d+")
_alive: list[Any] = []

# structlog's default shows a traceback's local variables, which took a second for some errors.
structlog.configure(
    [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_configure(config: pytest.Config) -> None:
    """Join the run, which pytest's main process makes."""
    given = getattr(config, "workerinput", None)
    if given is not None:
        begin(Path(given["run"]))
        return
    run = begin(make_directory())
    alive = (run.directory / ALIVE).open("w")
    fcntl.flock(alive, fcntl.LOCK_EX)
    _alive.append(alive)
    os.environ["TMPDIR"] = str(run.directory)
    tempfile.tempdir = None  # to be looked up again


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the run to a worker."""
    node.workerinput["run"] = str(this_run().directory)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run: the keeper removes the leftovers; wait for it."""
    if hasattr(config, "workerinput"):
        return
    directory = this_run().directory
    _alive.pop().close()
    try:
        with (directory / ENDING).open() as ending:
            fcntl.flock(ending, fcntl.LOCK_SH)
    except FileNotFoundError:  # no worker has needed a keeper
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return a worker for each core that this process may use, and one more: tests wait a lot."""
    return 1 + len(os.sched_getaffinity(0))


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Files as a whole, and shards each by itself, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if SHARD.search(nodeid) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Ignore `--dist`."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """Do once for all tests of this process what each would do again."""
    session = sys.modules.get("botocore.session")
    if session is not None:
        # Each session of boto3 would read EC2's model of ten megabytes, which takes a second.
        session.create_loader = functools.cache(session.create_loader)  # type: ignore[attr-defined]
    gc.freeze()  # so that collecting garbage does not go through all modules each time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest first, so that the workers end at about the same time."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    parts = item.path.parts
    return next((n for n, name in enumerate(LONGEST_FIRST) if name in parts), 0)
