"""The scheduler as a process of its own: environment, build, run."""

import contextlib
import sys
from pathlib import Path

from services.scheduler import CONSUMES, NAME
from services.scheduler.config import from_settings
from services.scheduler.service import build
from shared.adapters import open_bus
from shared.runtime.process import Composed, main, worker
from shared.runtime.service import Ports
from shared.settings import Settings

SQL = Path(__file__).parent / "sql"


async def compose(settings: Settings, ports: Ports, _stack: contextlib.AsyncExitStack) -> Composed:
    """Build the scheduler and its readiness."""
    return worker(settings, build(from_settings(settings), ports))


if __name__ == "__main__":
    sys.exit(main(NAME, CONSUMES, compose, open_bus, SQL))
