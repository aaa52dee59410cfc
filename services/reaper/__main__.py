"""The reaper as a process of its own: environment, build, run."""

import contextlib
import sys
from pathlib import Path

from services.reaper import CONSUMES, NAME
from services.reaper.config import from_settings
from services.reaper.service import build
from shared.adapters import compute_from, open_bus, open_notices
from shared.runtime.process import Composed, main, worker
from shared.runtime.service import Ports
from shared.settings import Settings

SQL = Path(__file__).parent / "sql"


async def compose(settings: Settings, ports: Ports, stack: contextlib.AsyncExitStack) -> Composed:
    """Build the reaper with its cloud, and its readiness."""
    compute = compute_from(settings, ports.clock)
    stack.push_async_callback(compute.close)
    return worker(settings, build(from_settings(settings), ports, compute, open_notices(settings)))


if __name__ == "__main__":
    sys.exit(main(NAME, CONSUMES, compose, open_bus, SQL))
